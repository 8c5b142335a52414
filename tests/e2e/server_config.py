"""The tests' server: the demo's settings, with the names and tokens of the people that the test made up."""

import asyncio
import faulthandler
import json
import os
import signal
import sys
from types import FrameType

from traitlets.config import get_config


def tell_where_it_stands(signum: int, frame: FrameType | None) -> None:
    """Print what every task and every thread waits for: a test asks a server that does not end."""
    try:
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
    faulthandler.dump_traceback(file=sys.stderr)


signal.signal(signal.SIGUSR2, tell_where_it_stands)

c = get_config()
c.ServerApp.identity_provider_class = "computehub_ext.api.identity.TwoUserIdentityProvider"
c.ServerApp.jpserver_extensions = {"computehub_ext": bool(os.environ["COMPUTEHUB_TEST_INSTALLED"])}
c.ComputeHub.database_url = "sqlite:///" + os.environ["COMPUTEHUB_TEST_DATA"] + "/computehub.sqlite"
c.ComputeHub.state_dir = os.environ["COMPUTEHUB_TEST_DATA"] + "/kernels"
c.ComputeHub.simulated = "always"
c.ComputeHub.tick_seconds = 1.0
for name, value in json.loads(os.environ.get("COMPUTEHUB_TEST_SETTINGS", "{}")).items():
    setattr(c.ComputeHub, name, value)
