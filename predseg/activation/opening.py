"""From a project to its channels at work: what they need to know of customers, and which files they write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from predseg.activation.channels import open_channel
from predseg.activation.outbox import actions_of
from predseg.activation.sending import Transport, World
from predseg.config import Config
from predseg.forecast.traits import at_moments
from predseg.history import exports
from predseg.language.channels import Channel, Mail
from predseg.segments.definitions import Segment
from predseg.store import Store

if TYPE_CHECKING:
    import pandas as pd


def open_channels(config: Config, segments: Iterable[Segment], world: World) -> tuple[dict[str, Channel], dict[str, Transport]]:
    """Return the channels that some segments send to, as they are declared and at work.

    Raises:
        ConfigError: E381 when a secret of one is not set.
        ChannelError: E801 when it is not one to sign with.
    """
    channels = used_channels(config, segments)
    return channels, {name: open_channel(channel, world) for name, channel in channels.items()}


def used_channels(config: Config, segments: Iterable[Segment]) -> dict[str, Channel]:
    """Return the channels that some segments send to."""
    used = {action.send for s in segments for change in ("entered", "left") for action in actions_of(s, change)}
    return {name: channel for name, channel in config.channels.items() if name in used}


def world_of(config: Config, environment: Mapping[str, str], wall: Callable[[], int], traits: Callable[[str], Mapping[str, Any]]) -> World:
    """Return what the channels of a project need of their surroundings; files are known to the store before they are written."""

    def writing(path: Path) -> None:
        exports.note(Store(config.store), [path])

    return World(environment, config.root, wall, traits, writing)


def traits_at(frame: pd.DataFrame | None, channels: Iterable[Channel], now: int) -> Callable[[str], Mapping[str, Any]]:
    """Return who is asked for the traits that mails name, as they are at a moment."""
    mails = [channel for channel in channels if isinstance(channel, Mail)]
    names = {name for mail in mails for text in (mail.subject, mail.text) for name in Template(text).get_identifiers()}
    names |= {str(mail.trait) for mail in mails if mail.trait}
    present = sorted(names & set(frame.columns)) if frame is not None else []
    if frame is None or not present:
        return lambda _: {}
    import numpy as np

    customers = frame["customer_id"].unique()
    columns = {name: at_moments(frame, name, customers, np.full(len(customers), now)) for name in present}
    rows = {c: {name: column[i] for name, column in columns.items() if column[i] is not None} for i, c in enumerate(customers)}
    return lambda customer_id: rows.get(customer_id, {})
