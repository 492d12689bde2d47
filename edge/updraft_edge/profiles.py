"""Profiles of `updraft calibrate`, laid under what a request says; refused where they are of another pair."""

from __future__ import annotations

import asyncio
import logging

from updraft.engine.base import Engine, ModelInfo
from updraft.errors import LinkError
from updraft.modes import ModeSettings
from updraft.profiles import ModelIdentity, Profile, read_profile
from updraft_edge.link import CloudLink

__all__ = ["Profiles"]

log = logging.getLogger(__name__)


class Profiles:
    """The profiles that one agent was asked for, each read once."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self._known: dict[str, Profile] = {}

    @classmethod
    def of(cls, engine: Engine, default: str | None) -> Profiles:
        """Those of an agent with this engine, which is shut down where the agent's own profile does not fit.

        Raises:
            UnknownName, ConfigError, ProfileMismatch: that one is missing, damaged or of another edge model.
        """
        profiles = cls(engine.info)
        if default is not None:
            try:
                profiles._known[default] = profiles._read(default)
            except BaseException:
                engine.shutdown()
                raise
        return profiles

    async def resolve(self, settings: ModeSettings, link: CloudLink | None) -> ModeSettings:
        """The settings with their profile's under them; as they are if they name none.

        Raises:
            UnknownName, ConfigError, ProfileMismatch: there is no such profile, it is damaged or of another pair.
            InvalidRequest: the request contradicts it.
        """
        if settings.profile is None:
            return settings
        profile = self._known.get(settings.profile)
        if profile is None:
            profile = await asyncio.to_thread(self._read, settings.profile)
            self._known[settings.profile] = profile
        if link is not None and not settings.local_only:
            await _check_cloud(profile, link)
        return profile.under(settings)

    def _read(self, name: str) -> Profile:
        profile = read_profile(name)
        info = self._info
        profile.check_edge(ModelIdentity(name=info.name, fingerprint=info.fingerprint), info.tokenizer_hash)
        return profile


async def _check_cloud(profile: Profile, link: CloudLink) -> None:
    """Compare with the cloud as it described itself; ask it if nobody did. One that is away cannot be asked."""
    cloud = link.cloud
    if cloud is None:
        if link.settings.address is None or not link.breaker.closed:
            return
        try:
            cloud = await link.describe()
        except LinkError as error:
            log.warning("the profile's cloud could not be compared: %s", error.message)
            return
    profile.check_cloud(ModelIdentity(name=cloud.model, fingerprint=cloud.fingerprint))
