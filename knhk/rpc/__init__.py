"""
The gRPC service as it goes over the wire: its description, and the code that is made from it (``make proto``).

Both sides use it: the service, and whoever calls it from Python (``pip install 'knhk[grpc]'``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PROTO: Final = Path(__file__).with_name("workflow_engine.proto")
"""The description of the service, for the tools of every language."""

SERVICE: Final = "knhk.workflow_engine.v1.WorkflowEngineService"
"""The service's full name."""
