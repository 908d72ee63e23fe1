//! Everything that is tested of `SqliteStore` from outside: the suite, damage, refusals, crashes, limits.

mod crash;
mod damage;
mod fixture;
mod limits;
mod refusal;
mod suite;
