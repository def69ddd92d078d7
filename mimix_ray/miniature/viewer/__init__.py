"""The viewer: a server of the OpenAI chat protocol that knows the miniature's cast, and recognises it by pixels alone.

`recognise` turns frames into who, where, doing what, in which style and setting; `answers` turns that into the JSON of
the questions that the stages put; `app` speaks HTTP. It stands in for GPT-4o where there is no network.
"""
