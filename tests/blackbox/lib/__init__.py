"""What the black-box tests are made of: see case.py for the way in."""
from .case import Case
from .client import Client, Closed, RpcError
from .installed import Installed
from .daemon import (AGENTCTL, AGENTD, BUILD, KEY, REHEARSAL, ROOT, Daemon, Place, Rehearsal, alive, daemons_of, poll,
                     processes_of)
from .model import ModelServer, Request, call, image, patch, plan, sh, stdin
from . import schema

__all__ = ["AGENTCTL", "AGENTD", "BUILD", "Case", "Client", "Closed", "Daemon", "Installed", "KEY", "ModelServer", "Place", "REHEARSAL",
           "ROOT", "Rehearsal", "Request", "RpcError", "alive", "call", "daemons_of", "image",
           "patch", "plan", "poll", "processes_of", "schema", "sh", "stdin"]
