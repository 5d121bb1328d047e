"""What kind of shop is simulated: its groups of customers, its categories, its rhythm. Plain declared numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from predseg.errors import UsageError, nearest


@dataclass(frozen=True)
class Group:
    """Customers who live by the same laws; the latent rates of each are drawn from these.

    A rate "per year" is per 365 days of operational time (see `predseg.shop.clock`), whose mean is that of the calendar.
    Visits per year ~ Gamma(``visit_shape``, mean ``visits``); conversion ~ Beta(mean ``conversion``, size ``conversion_size``);
    the rate of dropout ~ Gamma(``dropout_shape``, mean ``dropout``) a year; the share of e-mails answered ~ Beta(mean
    ``opens``, size ``opens_size``).
    """

    name: str
    share: float
    visits: float
    visit_shape: float
    conversion: float
    conversion_size: float
    dropout: float
    dropout_shape: float
    first_order: float  # probability that the visit that opens the account ends in an order
    cart: float  # of the visits without an order, the share that leaves a cart behind
    returns: float  # probability that the customer comes back for the cart and orders
    email_order: float  # of the clicked e-mails, the share that ends in an order
    favourites: tuple[str, ...] = ()  # categories; none means any by its weight
    loyalty: float = 0.6  # share of views in the favourite category
    wealth: float = 0.0  # mean of the taste for expensive products, in standard deviations
    opens: float = 0.28
    opens_size: float = 8.0
    clicks: float = 0.2  # of the answered e-mails, the share that is clicked
    unsubscribes: float = 0.008  # of the answered e-mails, the share that ends in an unsubscription

    @property
    def visit_scale(self) -> float:
        """The rate parameter of the Gamma law of visits, in operational days."""
        return self.visit_shape * 365 / self.visits

    @property
    def dropout_scale(self) -> float:
        """The rate parameter of the Gamma law of dropout, in operational days."""
        return self.dropout_shape * 365 / self.dropout

    @property
    def conversion_law(self) -> tuple[float, float]:
        """The two parameters of the Beta law of conversion."""
        return self.conversion * self.conversion_size, (1 - self.conversion) * self.conversion_size

    @property
    def opens_law(self) -> tuple[float, float]:
        """The two parameters of the Beta law of answering e-mails."""
        return self.opens * self.opens_size, (1 - self.opens) * self.opens_size


@dataclass(frozen=True)
class Category:
    """A shelf: how often a view without a favourite lands there, and what its products cost (median, spread of the log)."""

    name: str
    weight: float
    price: float
    spread: float
    brands: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A shop as declared numbers. Change some with `dataclasses.replace` and hand it to `predseg.shop.simulate`."""

    name: str
    groups: tuple[Group, ...]
    categories: tuple[Category, ...]
    season: float = 0.2  # the year swings by so much above and below its mean; 0 switches the season off
    growth: float = 0.35  # how much faster new customers sign up after a year
    at_opening: float = 0.2  # share of the customers who sign up in the first 45 days
    email_days: int = 14  # days between two mailings
    subscribed: float = 0.85  # share of accounts that agree to e-mail
    return_days: float = 1.5  # mean operational days until a customer returns to a cart
    response_days: float = 0.25  # mean operational days until an e-mail is answered
    browse_views: float = 2.9  # mean views of a visit without a cart
    cart_views: float = 4.0  # mean views of a visit with a cart
    more_adds: float = 0.17  # share of the further views that are added too; a few visits add far more than most
    refunds: float = 0.07  # share of the orders
    late: float = 0.05  # share of app sessions and e-mail answers that arrive minutes to days late
    strangers: float = 0.25  # anonymous visitors who never sign up, per customer


def to_json(kind: Kind) -> str:
    """Return the kind as text, kept in the metadata of the truth table."""
    return json.dumps(asdict(kind))


def from_json(text: str) -> Kind:
    """Return the kind of a text written by `to_json`."""
    read = json.loads(text)
    groups = tuple(Group(**{**g, "favourites": tuple(g["favourites"])}) for g in read.pop("groups"))
    categories = tuple(Category(**{**c, "brands": tuple(c["brands"])}) for c in read.pop("categories"))
    return Kind(**read, groups=groups, categories=categories)


_REGULAR = Group(
    "regular",
    share=0.94,
    visits=20,
    visit_shape=1.5,
    conversion=0.17,
    conversion_size=12,
    dropout=0.15,
    dropout_shape=1.5,
    first_order=0.6,
    cart=0.28,
    returns=0.22,
    email_order=0.1,
)
_COLLECTOR = Group(
    "collector",
    share=0.06,
    visits=150,
    visit_shape=4,
    conversion=0.0008,
    conversion_size=4000,
    dropout=0.12,
    dropout_shape=1.5,
    first_order=0.85,
    cart=0.33,
    returns=0.002,
    email_order=0.01,
    favourites=("Luxury Watches",),
    loyalty=0.85,
    wealth=0.8,
)
_FASHION = (
    Category("Luxury Watches", 0.012, 6900, 0.45, ("Aurelia", "Montclair", "Vantor")),
    Category("Watches", 0.1, 129, 0.5, ("Solum", "Tidewell", "Norrland")),
    Category("Jewellery", 0.13, 119, 0.75, ("Aurelia", "Lunette", "Maris")),
    Category("Bags", 0.16, 109, 0.6, ("Harrow", "Lunette", "Oakhart")),
    Category("Shoes", 0.22, 95, 0.5, ("Harrow", "Pacer", "Stride")),
    Category("Sunglasses", 0.1, 79, 0.55, ("Solum", "Maris")),
    Category("Accessories", 0.2, 32, 0.6, ("Oakhart", "Tidewell", "Pacer")),
    Category("Gifts", 0.078, 45, 0.7, ("Lunette", "Norrland")),
)
_FOOD = (
    Category("Fruit and Vegetables", 0.3, 2.4, 0.5, ("Greenfield", "Orchard")),
    Category("Dairy", 0.2, 2.1, 0.45, ("Meadow", "Alpine")),
    Category("Bakery", 0.15, 2.6, 0.4, ("Crust",)),
    Category("Meat and Fish", 0.12, 8.5, 0.5, ("Harbour", "Meadow")),
    Category("Household", 0.13, 5.5, 0.6, ("Brightly", "Tidy")),
    Category("Wine", 0.1, 11.5, 0.6, ("Clos", "Valle")),
)
_BOXES = (
    Category("Coffee Box", 0.5, 24, 0.25, ("Roast",)),
    Category("Wine Box", 0.2, 69, 0.3, ("Clos",)),
    Category("Razor Box", 0.3, 14, 0.2, ("Keen",)),
)
_DEFAULT = Kind("default", (_REGULAR, _COLLECTOR), _FASHION)
_ONE = replace(_REGULAR, share=1.0)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _DEFAULT,
        Kind("few_buyers", (replace(_ONE, conversion=0.012, conversion_size=60, first_order=0.12, returns=0.03, email_order=0.01),), _FASHION),
        Kind(
            "weekly_groceries",
            (replace(_ONE, visits=62, visit_shape=3, conversion=0.6, conversion_size=10, dropout=0.25, first_order=0.8),),
            _FOOD,
            season=0.05,
            browse_views=4,
            cart_views=14,
            more_adds=0.6,
            refunds=0.03,
        ),
        Kind("gifts", (replace(_ONE, visits=6, conversion=0.2, first_order=0.7),), _FASHION, season=0.75),
        Kind(
            "subscriptions",
            (replace(_ONE, visits=14, visit_shape=12, conversion=0.85, conversion_size=40, dropout=0.5, first_order=0.95, cart=0.1),),
            _BOXES,
            season=0.0,
            refunds=0.02,
        ),
    )
}
"""The presets. All of them buy by Poisson laws: the groceries come about weekly and the boxes about monthly, but not like a clock."""


def find_kind(kind: str | Kind) -> Kind:
    """Return a preset by its name; a `Kind` is returned as it is.

    Raises:
        UsageError: E206, no preset has this name.
    """
    if isinstance(kind, Kind):
        return kind
    if kind not in KINDS:
        raise UsageError("E206", "kind", f"no kind of shop is called {kind!r}", nearest(kind, tuple(KINDS)))
    return KINDS[kind]
