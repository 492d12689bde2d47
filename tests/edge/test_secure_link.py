"""TLS and tokens between the tiers: what fits works, what does not is named and never falls back to plain text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from tests.edge.test_agent import ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.config import CloudSettings, ListenSettings
from updraft.errors import AddressInUse, InsecureListen, Unauthenticated
from updraft_cloud.server import CloudServer

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Iterator[dict[str, Path]]:
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key", "foreign")}
    authority.cert_pem.write_to_path(str(paths["ca"]))
    certificate.cert_chain_pems[0].write_to_path(str(paths["cert"]))
    certificate.private_key_pem.write_to_path(str(paths["key"]))
    trustme.CA().cert_pem.write_to_path(str(paths["foreign"]))
    yield paths


def listen(files: dict[str, Path], **changes: Any) -> ListenSettings:
    return ListenSettings(port=0, tls_cert=files["cert"], tls_key=files["key"], **changes)


async def test_a_tls_cloud_with_a_token_answers_an_edge_that_has_both(files: dict[str, Path]) -> None:
    secured = listen(files, token=SecretStr(TOKEN))
    link = {"tls": True, "ca": files["ca"], "token": SecretStr(TOKEN)}
    async with running_cloud(HashEngine(), listen=secured) as cloud:
        async with running_agent(edge_engine(), cloud.address, link=link) as agent:
            _, completion = await complete(agent, ask("draft"))
            assert not completion.degraded


async def test_mutual_tls_wants_a_certificate_of_the_authority(files: dict[str, Path]) -> None:
    async with running_cloud(HashEngine(), listen=listen(files, client_ca=files["ca"])) as cloud:
        known = {"tls": True, "ca": files["ca"], "cert": files["cert"], "key": files["key"]}
        async with running_agent(edge_engine(), cloud.address, link=known) as agent:
            assert not (await complete(agent, ask("draft")))[1].degraded
        unknown = {"tls": True, "ca": files["ca"], "reconnect_attempts": 1}
        async with running_agent(edge_engine(), cloud.address, link=unknown) as agent:
            assert (await complete(agent, ask("draft")))[1].degraded


@pytest.mark.parametrize("case", ["plain edge, TLS cloud", "TLS edge, plain cloud", "foreign authority"])
async def test_a_tls_mismatch_leaves_the_answer_to_the_edge(case: str, files: dict[str, Path]) -> None:
    cloud_listen = ListenSettings(port=0) if case == "TLS edge, plain cloud" else listen(files)
    link: dict[str, Any] = {"reconnect_attempts": 1}
    if case != "plain edge, TLS cloud":
        link |= {"tls": True, "ca": files["foreign" if case == "foreign authority" else "ca"]}
    async with running_cloud(HashEngine(), listen=cloud_listen) as cloud:
        async with running_agent(edge_engine(), cloud.address, link=link) as agent:
            _, completion = await complete(agent, ask("draft"))
    assert completion.degraded_reason == "cloud_unavailable"


@pytest.mark.parametrize("token", [None, SecretStr("wrong-token-of-some-length")])
async def test_a_missing_or_wrong_token_is_told_and_not_hidden(token: SecretStr | None) -> None:
    secured = ListenSettings(port=0, token=SecretStr(TOKEN))
    async with running_cloud(HashEngine(), listen=secured) as cloud:
        async with running_agent(edge_engine(), cloud.address, link={"token": token}) as agent:
            with pytest.raises(Unauthenticated):
                await complete(agent, ask("draft"))


async def test_listening_beyond_this_machine_needs_tls_and_a_token() -> None:
    server = CloudServer(CloudSettings(listen=ListenSettings(host="0.0.0.0", port=0)), engine=HashEngine())
    with pytest.raises(InsecureListen, match="TLS and a token"):
        await server.start()


async def test_a_port_in_use_is_named() -> None:
    async with running_cloud(HashEngine()) as cloud:
        port = int(cloud.address.rsplit(":", 1)[1])
        second = CloudServer(CloudSettings(listen=ListenSettings(port=port)), engine=HashEngine())
        with pytest.raises(AddressInUse, match=str(port)):
            await second.start()
