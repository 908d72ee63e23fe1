//! The kernel's network as a node's agent makes it, in network namespaces that the tests make and that go with their threads.
//! What the kernel has is asked of `ip` and `nft`, which know nothing of us.
#![allow(missing_docs)]

mod apply;
mod machine;
