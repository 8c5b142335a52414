"""The tests' server: the demo's settings, with the names and tokens of the people that the test made up."""

import json
import os

from traitlets.config import get_config

from tests.e2e.people import PeopleByToken

c = get_config()
c.ServerApp.identity_provider_class = PeopleByToken
c.PeopleByToken.tokens = json.loads(os.environ["COMPUTEHUB_TEST_USERS"])
c.ServerApp.disable_check_xsrf = False
