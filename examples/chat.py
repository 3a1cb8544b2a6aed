"""Chat with the swarm through the official OpenAI client; the answer is printed as it comes.

    pip install openai
    python examples/chat.py "What is the capital of France?"

The endpoint is any node's: `OPENAI_BASE_URL`, or the node on this machine. Without
`--model` the first model of the swarm answers.
"""

from __future__ import annotations

import argparse
import os

from openai import OpenAI


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the swarm one question.")
    parser.add_argument("question")
    parser.add_argument("--model")
    options = parser.parse_args()
    with OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "unused"),
    ) as client:
        model = options.model or client.models.list().data[0].id
        with client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": options.question}], stream=True
        ) as stream:
            for chunk in stream:
                for choice in chunk.choices:
                    print(choice.delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
