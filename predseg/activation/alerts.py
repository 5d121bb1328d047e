"""Alerts: a channel tells its owner, not a customer, that something began or ceased to be wrong."""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from predseg.activation.channels import open_channel
from predseg.activation.sending import Alert, Later, Never, World
from predseg.errors import ChannelError
from predseg.language.channels import Channel

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
