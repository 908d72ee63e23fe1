//! What can happen to a machine's network: cuts, one-way cuts, losses, a slow line.

use std::process::Command;

use orchd_machines::Machine;

/// The interface of every machine.
const INTERFACE: &str = "eth0";
/// What comes in meets this chain first, and what goes out that one last; engines and agents put nothing there.
const CHAINS: [(&str, &str); 2] = [("raw", "PREROUTING"), ("mangle", "POSTROUTING")];

/// Which way packets go, as the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the machine.
    In,
    /// From it.
    Out,
}

/// Drops every packet of a machine that goes a way.
pub fn cut(machine: &Machine, way: Way) {
    rule(machine, way, &[]);
}

/// Drops every packet between a machine and others, by an address or a range, that goes a way.
pub fn cut_from(machine: &Machine, way: Way, others: &str) {
    let side = match way {
        Way::In => "-s",
        Way::Out => "-d",
    };
    rule(machine, way, &[side, others]);
}

/// Drops some of a machine's packets, both ways.
pub fn lose(machine: &Machine, percent: u8) {
    let probability = format!("{:.2}", f64::from(percent) / 100.0);
    for way in [Way::In, Way::Out] {
        rule(machine, way, &["-m", "statistic", "--mode", "random", "--probability", &probability]);
    }
}

/// Lets a machine send only so many kilobits each second.
pub fn slow(machine: &Machine, kilobits: u32) {
    let rate = format!("{kilobits}kbit");
    let limit = ["root", "tbf", "rate", &rate, "burst", "4kb", "latency", "2s"];
    run(machine, Command::new("tc").args(["qdisc", "replace", "dev", INTERFACE]).args(limit));
}

/// Takes back all of the above.
pub fn heal(machine: &Machine) {
    for (table, chain) in CHAINS {
        run(machine, iptables(table).args(["-F", chain]));
    }
    run(machine, Command::new("tc").args(["qdisc", "replace", "dev", INTERFACE, "root", "pfifo"]));
}

fn rule(machine: &Machine, way: Way, matches: &[&str]) {
    let (table, chain) = CHAINS[way as usize];
    let interface = match way {
        Way::In => "-i",
        Way::Out => "-o",
    };
    let mut command = iptables(table);
    command.args(["-A", chain, interface, INTERFACE]).args(matches).args(["-j", "DROP"]);
    run(machine, &mut command);
}

fn iptables(table: &str) -> Command {
    let mut command = Command::new("iptables");
    command.args(["--wait", "10", "-t", table]);
    command
}

fn run(machine: &Machine, command: &mut Command) {
    machine.run(command).expect("the machine's network can be disturbed");
}
