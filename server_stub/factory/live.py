"""What the parts of a running factory share; the configuration in it is replaced as a whole when it is reloaded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from server_stub.entries import Factory
from server_stub.factory.experience import Experienced
from server_stub.factory.metrics import Metrics
from server_stub.factory.overview import Filters
from server_stub.factory.receive import Receiver
from server_stub.factory.silence import silent_before
from server_stub.factory.store import Store
from server_stub.factory.tokens import Tokens, load_key
from server_stub.factory.vault import Vault, open_vault


@dataclass(slots=True)
class Live:
    """One running factory. ``collected`` is when the batch system last answered, epoch seconds."""

    factory: Factory
    store: Store
    tokens: Tokens
    metrics: Metrics
    receiver: Receiver
    experienced: Experienced
    vault: Vault
    collected: float = field(default_factory=time.time)

    def now(self, chosen: Filters) -> Filters:
        """Filters that know which pilots are silent by now."""
        return replace(chosen, silent_before=silent_before(self.factory))


def live(factory: Factory, store: Store) -> Live:
    """A factory with its signing key, which is made at its first use."""
    tokens = Tokens(factory.name, load_key(factory.state), store)
    metrics = Metrics(store)
    vault = open_vault(factory, store)
    receiver = Receiver(store, tokens, metrics)
    return Live(factory, store, tokens, metrics, receiver, Experienced(store), vault)
