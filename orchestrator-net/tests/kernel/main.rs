//! The kernel's network as a node's agent makes it, in network namespaces that the tests make and that go with their threads.
//! What the kernel has is asked of `ip` and `nft`, which know nothing of us.
#![allow(missing_docs)]

mod apply;
#[macro_use]
mod encrypted;
#[cfg(feature = "guest")]
mod guest;
mod machine;
mod node;
#[cfg(feature = "guest")]
mod wireguard;
mod wires;

/// Encrypted traffic by what this machine's kernel has, or else by WireGuard in the process.
mod encrypted_here {
    fn here(test: impl FnOnce()) {
        test();
    }

    encrypted_tests! { here }
}
