"""A MongoDB that keeps its documents in memory, for machines that have none.

It speaks the wire protocol (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/) and answers
the commands of a load as the manual says: exact types, unique indexes with their key pattern, validators,
upserts, cursors, renaming. As with MongoDB only a document is atomic: others see half of a batch, and a crash
leaves half of one. Harsher than MongoDB, it does not know a write that the driver sends again after a lost
answer (`txnNumber`), and carries it out a second time.

It proves what the sink does with such answers; that a server gives them, only a real one proves. Nothing
survives the process.
"""

from labs.mongo_wire.process import serving
from labs.mongo_wire.server import Fault, WireServer

__all__ = ["Fault", "WireServer", "serving"]
