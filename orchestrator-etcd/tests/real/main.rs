//! Everything that is tested of `EtcdStore` against etcds that really run: the suite.
//!
//! Each test is made for each program: a current one, and the oldest that is supported.

mod etcd;
mod suite;
