"""The tests' server: the demo's settings, with the names and tokens of the people that the test made up."""

import json
import os

from traitlets.config import get_config

c = get_config()
c.ServerApp.identity_provider_class = "computehub_ext.api.identity.TwoUserIdentityProvider"
c.ServerApp.jpserver_extensions = {"computehub_ext": bool(os.environ["COMPUTEHUB_TEST_INSTALLED"])}
c.ComputeHub.database_url = "sqlite:///" + os.environ["COMPUTEHUB_TEST_DATA"] + "/computehub.sqlite"
c.ComputeHub.state_dir = os.environ["COMPUTEHUB_TEST_DATA"] + "/kernels"
c.ComputeHub.simulated = "always"
c.ComputeHub.tick_seconds = 1.0
for name, value in json.loads(os.environ.get("COMPUTEHUB_TEST_SETTINGS", "{}")).items():
    setattr(c.ComputeHub, name, value)
