"""Demo data: 200,000 simulated card payments over 180 days, made offline in about a second.

The idea is the Fraud Detection Handbook's (Le Borgne, Siblini, Lebichot and Bontempi 2022, chapter 3): customers and
terminals on a plane, a spending profile for each customer, kinds of fraud that differ in what reveals them. The
generator is our own, and adds what single payments hide: shops that a customer keeps returning to, shopping trips,
journeys, tiny payments online, and frauds that come in sequences. Each of these frauds has lawful twins:

- `stolen number`: the payment shows it. It is online, dearer than most, often abroad and at night. A dear purchase
  or a journey looks alike.
- `skimmed terminal`: the terminal's past shows it. For two to four weeks part of its payments are frauds that look
  like any other, and now and then copied cards are tried there within minutes of one another.
- `taken over`: the customer's habits show it. Tiny payments test the card, then amounts beyond this customer's usual
  ones follow within minutes at terminals of no habit. Parking paid online before a shopping trip looks alike.

The constants were set once, before any network was trained on the data.
"""

import numpy as np
import pandas as pd

START, DAYS = np.datetime64("2024-01-01", "us"), 180  # as long as the Handbook's half year
PAYMENTS, CUSTOMERS, TERMINALS = 200_000, 1_000, 1_000  # about a payment a day for each; the Handbook has up to four
SIDE, RADIUS = 100.0, 8.0  # km; the Handbook's plane, with a few more terminals in reach
LOYALTY = 1.2  # Zipf exponent of a customer's visits to the terminals in reach
ONLINE, ONLINE_PAYMENTS = 0.2, 0.25  # share of terminals that are online shops, and mean share of payments made there
ABROAD = 0.1  # share of other terminals that are abroad, where only journeys lead; of online shops it is 0.3
NEW = 0.25  # share of customers who come in the course of the half year, without a history
JOURNEYS = 1.5  # mean number of journeys of a customer in the half year, of three to ten days each
TRIPS, TINY, DEAR = 0.05, 0.03, 0.01  # shares of payments: within an hour of another, a euro or two online, dear

# Together 1.2 % of payments. The Handbook has 0.84 %; real shares are a twentieth of that, with which a table of
# this size would hold too few frauds to judge a network by.
STOLEN, SKIMMED, TAKEN_OVER = 600, 70, 230  # payments, terminals, cards
SKIMMED_SHARE = 0.4  # of a skimmed terminal's payments; the Handbook makes all of them frauds
MECHANISMS = ("none", "stolen number", "skimmed terminal", "taken over")

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400  # seconds


def make(seed: int) -> pd.DataFrame:
    """A table of payments in order of time, the same for the same seed.

    Columns: `payment_id` (int), `time` (datetime64[us]), `customer` and `terminal` (text), `amount` (euro), `channel`
    (chip, contactless or online), `country` (home, near or far: the terminal's), `fraud` (0 or 1).
    """
    return _simulate(seed).drop(columns="mechanism")


def mechanisms(seed: int) -> np.ndarray:
    """What made each payment of `make(seed)` a fraud, shape (PAYMENTS,), values of `MECHANISMS`; never an input."""
    return np.array(MECHANISMS)[_simulate(seed)["mechanism"]]


def _simulate(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    world = _world(rng)
    spells = _spells(rng, world)
    frauds = pd.concat([_stolen(rng, world), _copied_cards(rng, world, spells), _taken_over(rng, world)])
    lawful = _lawful(rng, world)
    kept = lawful.iloc[rng.choice(len(lawful), PAYMENTS - len(frauds), replace=False)]
    table = pd.concat([_skim(rng, kept, spells), frauds]).sort_values("second", kind="stable", ignore_index=True)

    terminal, amount = table["terminal"].to_numpy(), table["amount"].clip(0.5, 5_000).round(2)
    touched = rng.random(PAYMENTS) < np.where(amount > 50, 0.3, 0.9)  # above 50 euro, cards ask for the PIN
    columns = {
        "payment_id": np.arange(PAYMENTS),
        "time": START + table["second"].to_numpy(np.int64).astype("timedelta64[s]"),
        "customer": _names("C", CUSTOMERS)[table["customer"]],
        "terminal": _names("T", TERMINALS)[terminal],
        "amount": amount,
        "channel": np.where(world["online"][terminal], "online", np.where(touched, "contactless", "chip")),
        "country": np.array(["home", "near", "far"])[world["country"][terminal]],
        "fraud": (table["mechanism"] > 0).astype(np.int8),
        "mechanism": table["mechanism"],
    }
    return pd.DataFrame(columns)


def _world(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Customers and terminals: who they are, and how likely each customer is to pay at each terminal."""
    home, place = rng.uniform(0, SIDE, (CUSTOMERS, 2)), rng.uniform(0, SIDE, (TERMINALS, 2))
    online = rng.random(TERMINALS) < ONLINE
    abroad = rng.random(TERMINALS) < np.where(online, 0.3, ABROAD)

    liking = rng.random((CUSTOMERS, TERMINALS))
    distance = np.linalg.norm(home[:, None] - place, axis=2) + np.where(online | abroad, np.inf, 0)
    in_reach = (distance < RADIUS) | (distance == distance.min(axis=1, keepdims=True))
    rank = 1 + np.where(in_reach, liking, 2).argsort(axis=1).argsort(axis=1)
    near = in_reach / rank**LOYALTY
    far = online & (liking > np.quantile(liking[:, online], 0.97, axis=1, keepdims=True))  # a customer's own six shops
    share = rng.beta(2, 2 / ONLINE_PAYMENTS - 2, (CUSTOMERS, 1))
    visits = (1 - share) * near / near.sum(axis=1, keepdims=True) + share * far / far.sum(axis=1, keepdims=True)
    return {
        "online": online,
        "country": np.where(abroad, rng.integers(1, 3, TERMINALS), 0),
        "price": rng.lognormal(0, 0.4, TERMINALS),  # some terminals are dearer than others
        "visits": np.cumsum(visits, axis=1) / visits.sum(axis=1, keepdims=True),
        "rate": rng.uniform(0.2, 2.0, CUSTOMERS),  # payments, relative to one another
        "spend": rng.lognormal(np.log(30), 0.6, CUSTOMERS),  # median amount, euro
        "hour": rng.normal(14, 2, CUSTOMERS),  # when the customer likes to pay
        "since": rng.uniform(0, DAYS * _DAY, CUSTOMERS) * (rng.random(CUSTOMERS) < NEW),  # second
    }


def _payments(
    world: dict, second: np.ndarray, customer: np.ndarray, terminal: np.ndarray, amount: np.ndarray, mechanism: int
) -> pd.DataFrame:
    """Payments within the period and the customer's time; `mechanism` is a place in `MECHANISMS`."""
    columns = {"second": second, "customer": customer, "terminal": terminal, "amount": amount}
    table = pd.DataFrame(columns).assign(mechanism=np.int8(mechanism))
    return table[table["second"].between(world["since"][customer], DAYS * _DAY - 1)]


def _lawful(rng: np.random.Generator, world: dict[str, np.ndarray]) -> pd.DataFrame:
    n = int(1.25 * PAYMENTS)  # those before their customer came fall out
    customer = np.sort(rng.choice(CUSTOMERS, n, p=world["rate"] / world["rate"].sum()))
    week = np.resize([1.0, 1.0, 1.0, 1.05, 1.2, 1.3, 0.8], DAYS)  # Monday to Sunday
    day = rng.choice(DAYS, n, p=week / week.sum())
    second = day * _DAY + rng.normal(world["hour"][customer], 3.5) % 24 * _HOUR
    # All customers' cumulative visits, one after the other, make one increasing sequence to look a draw up in.
    visits = (world["visits"] + np.arange(CUSTOMERS)[:, None]).ravel()
    terminal = np.searchsorted(visits, customer + rng.random(n)) % TERMINALS

    amount = rng.lognormal(np.log(world["spend"][customer] * world["price"][terminal]), 0.6)

    # A journey leads to a dozen shops of its own, and to larger amounts.
    shops = [np.flatnonzero(~world["online"] & ((world["country"] > 0) == abroad)) for abroad in (False, True)]
    goes_abroad = rng.random((CUSTOMERS, 3, 1)) < 0.3
    stops = np.where(goes_abroad, *(rng.choice(at, (CUSTOMERS, 3, 12)) for at in reversed(shops)))
    begin = rng.uniform(0, DAYS, (CUSTOMERS, 3))
    end = begin + rng.uniform(3, 10, (CUSTOMERS, 3)) * (rng.random((CUSTOMERS, 3)) < JOURNEYS / 3)
    inside = (day[:, None] >= begin[customer]) & (day[:, None] < end[customer])
    away = inside.any(axis=1) & ~world["online"][terminal]
    terminal = np.where(away, stops[customer, inside.argmax(axis=1), rng.integers(0, 12, n)], terminal)
    amount *= np.where(away, rng.lognormal(0.4, 0.5, n), 1)

    amount *= np.where(rng.random(n) < DEAR, rng.uniform(4, 12, n), 1)
    tiny = rng.random(n) < TINY
    terminal = np.where(tiny, rng.choice(np.flatnonzero(world["online"]), n), terminal)
    amount = np.where(tiny, rng.uniform(0.5, 3, n), amount)
    follows = 1 + np.flatnonzero((rng.random(n - 1) < TRIPS) & (customer[1:] == customer[:-1]))
    second[follows] = second[follows - 1] + rng.exponential(40 * _MINUTE, len(follows))
    return _payments(world, second, customer, terminal, amount, 0)


def _stolen(rng: np.random.Generator, world: dict[str, np.ndarray]) -> pd.DataFrame:
    shops = np.flatnonzero(world["online"])
    liked = np.where(world["country"][shops] > 0, 3, 1) * rng.lognormal(0, 0.7, len(shops))
    second = rng.integers(0, DAYS, STOLEN) * _DAY + rng.normal(1, 5, STOLEN) % 24 * _HOUR
    customer, terminal = rng.integers(0, CUSTOMERS, STOLEN), rng.choice(shops, STOLEN, p=liked / liked.sum())
    return _payments(world, second, customer, terminal, rng.lognormal(np.log(130), 0.8, STOLEN), 1)


def _spells(rng: np.random.Generator, world: dict[str, np.ndarray]) -> pd.DataFrame:
    """The skimmed terminals, with the first and the last second of their spell."""
    begin = rng.uniform(-14, DAYS, SKIMMED) * _DAY
    terminal = rng.choice(np.flatnonzero(~world["online"]), SKIMMED, replace=False)
    return pd.DataFrame({"terminal": terminal, "begin": begin, "end": begin + rng.uniform(14, 28, SKIMMED) * _DAY})


def _skim(rng: np.random.Generator, lawful: pd.DataFrame, spells: pd.DataFrame) -> pd.DataFrame:
    """The lawful payments, of which those that a skimmed terminal turned into frauds are marked."""
    spell = spells.set_index("terminal").reindex(lawful["terminal"])
    inside = lawful["second"].between(spell["begin"].to_numpy(), spell["end"].to_numpy())
    return lawful.assign(mechanism=np.where(inside & (rng.random(len(lawful)) < SKIMMED_SHARE), 2, 0).astype(np.int8))


def _copied_cards(rng: np.random.Generator, world: dict[str, np.ndarray], spells: pd.DataFrame) -> pd.DataFrame:
    """Bursts in a skimmed terminal's spell: two to four cards from anywhere, minutes apart."""
    bursts = spells.loc[spells.index.repeat(rng.poisson(1.5, SKIMMED))]
    begin = rng.uniform(bursts["begin"], bursts["end"])
    burst = np.repeat(np.arange(len(bursts)), rng.integers(2, 5, len(bursts)))
    second = begin[burst] + _running(rng.exponential(6 * _MINUTE, len(burst)), burst)
    customer, terminal = rng.integers(0, CUSTOMERS, len(burst)), bursts["terminal"].to_numpy()[burst]
    return _payments(world, second, customer, terminal, rng.lognormal(np.log(45), 0.7, len(burst)), 2)


def _taken_over(rng: np.random.Generator, world: dict[str, np.ndarray]) -> pd.DataFrame:
    """Cards in a thief's hands for a few hours: none to two tests, then two to six purchases."""
    tests, purchases = rng.choice(3, TAKEN_OVER, p=[0.3, 0.4, 0.3]), rng.integers(2, 7, TAKEN_OVER)
    card = np.repeat(np.arange(TAKEN_OVER), tests + purchases)
    place = _running(np.ones(len(card)), card)
    test = place < tests[card]
    second = rng.uniform(0, DAYS, TAKEN_OVER)[card] * _DAY + _running(rng.exponential(35 * _MINUTE, len(card)), card)
    customer = rng.choice(CUSTOMERS, TAKEN_OVER)[card]
    shop = rng.choice(np.flatnonzero(world["online"]), len(card))
    terminal = np.where(test | (rng.random(len(card)) < 0.4), shop, rng.integers(0, TERMINALS, len(card)))
    beyond = world["spend"][customer] * rng.uniform(1.5, 5, len(card)) * rng.lognormal(0, 0.3, len(card))
    return _payments(world, second, customer, terminal, np.where(test, rng.uniform(0.5, 3, len(card)), beyond), 3)


def _running(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The sum of the earlier `values` of the same group, shape (n,); groups stand together."""
    before = pd.Series(values).groupby(group).cumsum() - values
    return before.to_numpy()


def _names(letter: str, count: int) -> np.ndarray:
    return np.array([f"{letter}{number:04d}" for number in range(count)])
