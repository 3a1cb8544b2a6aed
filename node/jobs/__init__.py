"""What takes a while and is watched: getting models.

    runner        runs jobs, and ends them
      board       core: which jobs there are, and what became of them
        job       one of them, as everybody sees it
        pace      core: how fast it goes, and when it will be done
      job_file    what a restart finds again

A job that was running when the node ended runs again: what it had fetched by then is still there.
"""
