"""The swarm as a model of a LangChain chain: a prompt, the swarm, plain text.

    pip install langchain-openai
    python examples/langchain_chat.py France

The endpoint is any node's: `OPENAI_BASE_URL`, or the node on this machine.
"""

from __future__ import annotations

import argparse
import os

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from pydantic import SecretStr


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the swarm for a capital.")
    parser.add_argument("country")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    options = parser.parse_args()
    model = ChatOpenAI(
        model=options.model,
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
        api_key=SecretStr(os.environ.get("OPENAI_API_KEY", "unused")),
        temperature=0,
    )
    prompt = ChatPromptTemplate.from_messages([("human", "What is the capital of {country}?")])
    chain = prompt | model | StrOutputParser()
    print(chain.invoke({"country": options.country}))


if __name__ == "__main__":
    main()
