"""The contract itself, and a page to read it on."""

from __future__ import annotations

import json
from typing import Any

from jupyter_server.utils import url_path_join

from computehub_ext.core.contract import Contract
from computehub_ext.core.web import API_PATH, ComputeHubHandler, authorized

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ComputeHub API</title>
<link rel="stylesheet" href="{swagger}/swagger-ui.css">
</head>
<body>
<main id="docs" data-contract="{contract}"></main>
<script src="{swagger}/swagger-ui-bundle.js"></script>
<script src="{static}/docs.js"></script>
</body>
</html>
"""


class ContractHandler(ComputeHubHandler):
    path = "openapi.yaml"

    @authorized("read", resource="computehub:documents")
    async def get(self) -> None:
        contract: Contract = self.settings["computehub_contract"]
        self.finish(contract.path.read_bytes(), set_content_type="application/yaml; charset=utf-8")


class ContractForDocsHandler(ComputeHubHandler):
    """The contract as the bundled Swagger UI can draw it; programs read ``openapi.yaml``."""

    path = "docs/openapi-3.0.json"

    @authorized("read", resource="computehub:documents")
    async def get(self) -> None:
        contract: Contract = self.settings["computehub_contract"]
        document = as_openapi_30(contract.document)
        document["servers"] = [{"url": url_path_join(self.base_url, API_PATH)}]
        self.finish(json.dumps(document))


class DocsHandler(ComputeHubHandler):
    path = "docs"

    @property
    def content_security_policy(self) -> str:
        # Swagger UI sets style attributes and draws its icons from data URLs.
        return (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
        )

    @authorized("read", resource="computehub:documents")
    async def get(self) -> None:
        page = _PAGE.format(
            swagger=url_path_join(self.base_url, "computehub/swagger"),
            static=url_path_join(self.base_url, "computehub/static"),
            contract=url_path_join(self.base_url, API_PATH, ContractForDocsHandler.path),
        )
        self.finish(page, set_content_type="text/html; charset=utf-8")


def as_openapi_30(node: Any) -> Any:
    """Rewrite the parts of 3.1 that we use in the words of 3.0, since the bundled Swagger UI knows no newer one."""
    if isinstance(node, list):
        return [as_openapi_30(item) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    old = {name: as_openapi_30(value) for name, value in node.items()}
    if "openapi" in old:
        old["openapi"] = "3.0.3"
        old["info"].pop("summary", None)
        old["info"]["license"].pop("identifier", None)
    if isinstance(old.get("type"), list):
        kinds = [kind for kind in node["type"] if kind != "null"]
        old["type"], old["nullable"] = kinds[0], "null" in node["type"]
    if isinstance(old.get("oneOf"), list) and {"type": "null"} in node["oneOf"]:
        old["nullable"] = True
    if isinstance(old.get("examples"), list):
        old["example"] = old.pop("examples")[0]
    return old
