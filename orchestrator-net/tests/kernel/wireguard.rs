//! WireGuard of the kernel, and beside that of the process.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use orchestrator_core::node::WIREGUARD_PORT;

use crate::guest::in_guest;
use crate::node::{Capture, Node};

/// Makes the kernel one without WireGuard, as long as nobody has a device of it.
fn take_wireguard_away() {
    load_by("/bin/false");
    let _ = Command::new("rmmod").arg("wireguard").status();
    assert!(!std::path::Path::new("/sys/module/wireguard").exists(), "somebody has a device");
}

/// Says who loads modules when the kernel asks for one.
fn load_by(program: &str) {
    std::fs::write("/proc/sys/kernel/modprobe", program).expect("root");
}

mod in_kernel {
    encrypted_tests! { crate::guest::in_guest }
}

#[test]
fn a_kernel_that_has_wireguard_is_used_and_one_that_has_not_is_not() {
    in_guest(|| {
        let (mut a, mut b, _wire) = Node::two();
        take_wireguard_away();
        a.begin();
        assert_eq!(a.wireguards(), ["tun"]);
        load_by("/sbin/modprobe");
        b.begin();
        assert_eq!(b.wireguards(), ["wireguard"]);
        a.apply().expect("applied");
        assert_eq!(a.wireguards(), ["tun"], "what works is left as it is");
    });
}

#[test]
fn nodes_with_and_without_it_in_the_kernel_talk_and_nothing_is_read() {
    in_guest(|| {
        let (mut a, mut b, wire) = Node::two();
        let capture = Capture::of(&wire);
        take_wireguard_away();
        a.begin();
        load_by("/sbin/modprobe");
        b.begin();
        assert_eq!((a.wireguards(), b.wireguards()), (vec!["tun"], vec!["wireguard"]));
        assert!(a.talks_with(&b) && b.talks_with(&a));
        // Whoever begins anew is known again by the other.
        for turn in 0..2 {
            let node = [&mut a, &mut b].into_iter().nth(turn).expect("two");
            let device = node.wireguard();
            node.machine.ip(&format!("link del {device}"));
            assert!(a.is_cut_off_from(&b));
            [&mut a, &mut b].into_iter().for_each(|node| node.apply().expect("applied"));
            assert!(a.talks_with(&b) && b.talks_with(&a));
        }
        assert_eq!(b.wireguards(), ["wireguard"]);
        let (all, clear) = capture.seen();
        assert!(all > 0);
        assert_eq!(clear, 0, "of {all} packets");
    });
}

#[test]
fn it_goes_on_without_the_agent_and_the_next_one_takes_it_over() {
    in_guest(|| {
        let (mut a, mut b, wire) = Node::two();
        a.begin();
        b.begin();
        let capture = Capture::of(&wire);
        assert!(a.talks_with(&b));
        let before = a.machine.state();
        a.end_agent();
        assert!(a.talks_with(&b) && b.talks_with(&a));
        assert_eq!(a.machine.state(), before);
        a.apply().expect("applied");
        assert_eq!(a.machine.state(), before);
        assert!(a.talks_with(&b));
        assert_eq!(capture.seen().1, 0, "nothing passed in clear");
    });
}

#[test]
fn a_port_that_somebody_has_is_said_and_is_no_reason_for_another_way() {
    in_guest(|| {
        let (mut a, mut b, wire) = Node::two();
        let taken = a.machine.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, WIREGUARD_PORT)));
        let taken = taken.expect("a free port");
        let error = a.apply().expect_err("the port is taken");
        assert!(error.contains("UDP port 51820"), "{error}");
        assert_eq!(a.wireguards(), ["wireguard"]);
        drop(taken);
        a.begin();
        b.begin();
        let capture = Capture::of(&wire);
        assert!(a.talks_with(&b));
        assert_eq!(capture.seen().1, 0);
    });
}

#[test]
fn a_device_of_that_name_that_is_something_else_is_left_alone() {
    in_guest(|| {
        let (mut a, _b, _wire) = Node::two();
        a.apply().expect("applied");
        let device = a.wireguard();
        a.machine.ip(&format!("link del {device}"));
        a.machine.ip(&format!("link add {device} type bridge"));
        let error = a.apply().expect_err("it is a bridge");
        assert!(error.contains(&device) && error.contains("WireGuard"), "{error}");
        assert!(a.machine.ip("-o link show type bridge").contains(&device));
    });
}
