//! Everything that is tested of `EtcdStore` against etcds that really run: the suite, faults, access, sharing an etcd, and a cluster on one.
//!
//! Each test is made for each program: a current one, and the oldest that is supported.

mod access;
mod cluster;
mod etcd;
mod faults;
mod patience;
mod sharing;
mod suite;

/// Expands to one test per named function and program.
macro_rules! with_each_etcd {
    ($($test:ident)*) => {
        mod current {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(crate::etcd::Program::Current).await;
                }
            )*
        }

        mod old {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(crate::etcd::Program::Old).await;
                }
            )*
        }
    };
}
pub(crate) use with_each_etcd;
