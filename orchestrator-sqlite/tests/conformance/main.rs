//! Everything that is tested of `SqliteStore` from outside: the suite, damage, refusals, crashes, limits, filling.

mod crash;
mod damage;
mod filling;
mod fixture;
mod limits;
mod refusal;
mod suite;
