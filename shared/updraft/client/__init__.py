"""The Python SDK: asks a running edge agent over gRPC.

```python
from updraft.client import Client

with Client() as client:
    print(client.generate("Why is the sky blue?", mode="draft").text)
    with client.stream(messages=[{"role": "user", "content": "Hello"}]) as stream:
        for event in stream:
            print(event.text, end="")
```
"""

from __future__ import annotations

from updraft.client.asynchronous import AsyncClient, AsyncTokenStream
from updraft.client.connection import DEFAULT_ADDRESS
from updraft.client.request import GenerateOptions
from updraft.client.synchronous import Client, TokenStream

__all__ = ["DEFAULT_ADDRESS", "AsyncClient", "AsyncTokenStream", "Client", "GenerateOptions", "TokenStream"]
