"""A simulated shop whose truth is known: for the demo, for the tests of models, and for learning what a forecast can reach.

    simulate(customers, days, seed, start, kind) -> Shop     events, customers and truth, in memory
    write(folder, ...)                                       the same as the files of a demo project
    true_probability(truth, as_of, horizon, given)           P(at least one order), exactly
    KINDS                                                    default, few_buyers, weekly_groceries, gifts, subscriptions

The laws
--------
Time is *operational* (`predseg.shop.clock`): it runs faster when the shop is busy (hour, weekday, season), so that rates
are constants. τ is now, H the length of the horizon, both in operational days. Every customer has hidden rates, drawn once
from the laws of its group:

- visits: a Poisson law of rate ν ~ Gamma(r, α), from opening the account at b until the customer is lost at T
- lost: T − b ~ exponential of rate μ ~ Gamma(s, β). With the visits this is the Pareto/NBD law of Schmittlein, Morrison and
  Colombo, "Counting your customers: who are they and what will they do next?", Management Science 33 (1987)
- a visit ends in an order with probability p ~ Beta; the visit that opens the account with a known probability instead
- of the visits without an order a share a leaves a cart; with probability ρ the customer returns for it and orders, after
  0.02 days and an exponential time of mean θ: the return has come by age d with probability ρF(d)
- e-mails go out every 14 days, from the opening of the account to an unsubscription, lost or not. A customer who is not lost
  answers each with probability o ~ Beta, after an exponential time cut at 1.5 days, G(d); an answer is an unsubscription (y),
  else a click (c), which is an order with probability g

What has begun goes its way: an answer or a return still comes when the customer is lost in between.

The truth
---------
Given the hidden state, P(no order in (τ, τ + H]) is the product over open carts of age d of 1 − ρ(F(d + H) − F(d)) / (1 − ρF(d)),
times the mean over the coming time of dropout T′ of exp(−ν κ(T′)) × E(T′), where up to v = min(T′ − τ, H)

    κ = p v + (1 − p) a ρ ∫₀ᵛ F(H − u) du         orders from visits, and from the carts that they will leave

and E follows the deliveries before T′ one by one: each leaves "no order" with probability 1 − o (1 − y) c g G(H − v), and "will
get no more e-mails" with o y. Given the history alone, every law is conjugate once T is known: ν | n visits ~ Gamma(r + n, α + τ − b),
p ~ Beta, o ~ Beta, μ ~ Gamma(s + 1 if lost, β + ...); the weight of having been lost since the last sign of life is an integral over T,
smooth between two deliveries, taken by Gauss-Legendre, like the means over p and o. ``given="history"`` knows the group of a
customer, which a few visits reveal. A visit in progress is not known to it: the laws speak of the end of a visit.
A perfect forecast reaches the scores of ``given="history"``, and no more; those of ``given="state"`` are out of reach for everybody.
In the default shop, forward from 30 and 90 days before its end (recency alone: AUC 0.69 and 0.67):

================================================ ====================== ======================
forecast                                         given the history      given the hidden state
================================================ ====================== ======================
an order in 30 days, of all accounts             AUC 0.80, Brier 0.124  AUC 0.82, Brier 0.119
none in 90 days, of those who bought in 365      AUC 0.80, Brier 0.183  AUC 0.83, Brier 0.167
================================================ ====================== ======================

Compared with real shops
------------------------
Measured on 20,000 customers, seed 1 (3.3 million events in 7 s), beside UCI Online Retail (4,338 customers, 18,532 orders, 374 days), RetailRocket
(23,135 items put into carts) and REES46 (93 purchases of something put into the cart in the same visit):

=============================================== ================================ ===============================
figure                                          real                             simulated
=============================================== ================================ ===============================
orders per customer in 374 days: mean, median   4.3, 2 (Online Retail)           4.1, 3
customers with a second order in 374 days       66 %                             70 %
a second order within 30, 90, 180 days          22, 47, 67 %                     27, 53, 70 %
bought before, buys within 30, 90 days          28, 57 % (autumn)                27, 50 %
days between orders: quartiles                  7, 22, 51                        10, 25, 55
value of an order: 90th percentile / median     2.7                              3.7
refunds: share of the orders, of the value      20 %, 7 %                        6.7 %, 6.3 %
minutes from the start of a visit to the first  0.2, 1.4, 5.3, 16 (RetailRocket) 0.3, 1.1, 3.7, 11
  cart: quartiles, 90th percentile
minutes between items: quartiles, 90th          0.4, 1.9, 8.7, 24                1.1, 2.8, 7.3, 16
items per visit with a cart: mean, 90th, 99th   1.6, 3, 9                        1.4, 2, 6
minutes from the last item to the order:        0.8, 1.3, 2.4 (REES46)           0.9, 1.6, 3.8
  quartiles
=============================================== ================================ ===============================

Different on purpose: one customer in 17 is a collector of luxury watches, who visits every second day, leaves carts behind and
hardly ever buys again, so that "spent over 5,000, looked at luxury watches, left a cart, about to churn" finds somebody.
All kinds buy by Poisson laws: groceries come about weekly, not every Saturday.

>>> from predseg.language.time import DAY
>>> shop = simulate(customers=100, days=120, seed=7)
>>> shop.events.column_names[:6]
['customer_id', 'anonymous_id', 'event', 'event_time', 'received_at', 'value']
>>> chance = true_probability(shop.truth, shop.end, 30 * DAY)
>>> chance.shape
(100,)
"""

from __future__ import annotations

from predseg.shop.files import write
from predseg.shop.kinds import KINDS, Category, Group, Kind
from predseg.shop.simulation import Shop, simulate
from predseg.shop.truth import Given, true_probability

__all__ = ["KINDS", "Category", "Given", "Group", "Kind", "Shop", "simulate", "true_probability", "write"]
