"""The demo server's settings: two people, data of its own, and leases that end with it."""

import os
from pathlib import Path

from traitlets.config import get_config

from computehub_ext.api.identity import TwoUserIdentityProvider

c = get_config()
data = Path(os.environ["COMPUTEHUB_DEMO_DATA"])
c.ServerApp.jpserver_extensions = {"computehub_ext": True}
c.ServerApp.identity_provider_class = TwoUserIdentityProvider
c.ComputeHub.database_url = f"sqlite:///{data / 'computehub.sqlite'}"
c.ComputeHub.state_dir = str(data / "kernels")
# Ctrl-C ends all of it: nobody would come back to the kernels and their bills.
c.ComputeHub.end_leases_on_stop = True
