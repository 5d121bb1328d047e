"""Alerts: a channel tells its owner, not a customer, that something began or ceased to be wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from predseg.activation.channels import open_channel
from predseg.activation.opening import world_of
from predseg.activation.sending import Alert, Later, Never, World
from predseg.config import Config
from predseg.errors import ChannelError, ConfigError, PredsegError, nearest
from predseg.language.channels import Channel

if TYPE_CHECKING:
    from predseg.outcomes.monitoring import Turn

ATTEMPTS = 3


@dataclass(frozen=True)
class Teller:
    """Tells alerts through a channel.

    Args:
        name: Of the channel.
        channel: Its declaration.
        world: What it needs of its surroundings.
        pause: The longest pause before another attempt (seconds).
    """

    name: str
    channel: Channel
    world: World
    pause: float = 5.0

    def __call__(self, alert: Alert) -> None:
        """Tell an alert, up to `ATTEMPTS` times.

        Raises:
            ChannelError: E802 when it did not arrive.
        """
        transport = open_channel(self.channel, self.world)
        attempts = Retrying(stop=stop_after_attempt(ATTEMPTS), wait=wait_exponential_jitter(max=self.pause), retry=retry_if_exception_type(Later))
        try:
            attempts(transport.alert, alert)
        except (Never, RetryError) as error:
            cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
            raise ChannelError("E802", self.name, f"an alert did not arrive: {cause}", "it is told again at the next look; see `channels:`") from None


def watches(config: Config, environment: Mapping[str, str], clock: Callable[[], int]) -> Callable[[Turn], None] | None:
    """Return what tells a turn of a watch through the channel of ``monitor: send``; None when nobody is to be told.

    Raises:
        ConfigError: E339 when there is no such channel.
    """
    name = config.monitor.send
    if name is None:
        return None
    if name not in config.channels:
        raise ConfigError("E339", "monitor.send", f"unknown channel {name!r}", nearest(name, tuple(config.channels)))
    teller = Teller(name, config.channels[name], World(environment, config.root, clock))

    def tell(turn: Turn) -> None:
        now, says = clock(), config.smallest_group.told(turn.says)
        facts = {"project": config.project, "watch": turn.watch, "of": turn.about, "status": turn.status, "says": says}
        alert_id = hashlib.sha256(f"{config.project}|{turn.key}|{turn.status}|{now}".encode()).hexdigest()[:32]
        teller(Alert(alert_id, now, turn.status, f"{config.project}: {says}", facts))

    return tell


def alarms(
    config: Config, environment: Mapping[str, str], clock: Callable[[], int], failed: Callable[[str], None]
) -> Callable[[str, int | None, str], None]:
    """Return what tells an alarm of the server through the channel of ``serve: alerts: send``, in a thread of its own.

    It is called with the alarm's name, since when it rings (None: no more), and what it says; ``failed`` is told when nobody could be told.

    Raises:
        ConfigError: E339 when there is no such channel.
    """
    name = config.serve.alerts.send
    if name is None:
        return lambda alarm, since, says: None
    if name not in config.channels:
        raise ConfigError("E339", "serve.alerts.send", f"unknown channel {name!r}", nearest(name, tuple(config.channels)))
    tell = Teller(name, config.channels[name], world_of(config, environment, clock, lambda _: {}))

    def told(alert: Alert) -> None:
        try:
            tell(alert)
        except PredsegError as error:
            failed(error.message)

    def ring(alarm: str, since: int | None, says: str) -> None:
        kind, at = ("ok", clock()) if since is None else ("failing", since)
        alert = Alert(f"alarm-{alarm.replace(' ', '-')}-{at}", at, kind, f"{config.project}: {says}", {"project": config.project, "alarm": alarm})
        threading.Thread(target=told, args=(alert,), daemon=True).start()

    return ring
