//! How soon a node that dies is missed, and how often one that lives is: the judge of silence on made-up hours of reports. With
//! `--nocapture` it prints the figures that stand in `docs/guides/cluster.md`.

#![allow(clippy::print_stdout)] // the figures are for whoever asks for them

use orchestrator_core::model::Timestamp;
use orchestrator_core::world::{Signal, World};

const NODES: u64 = 100;
const HOUR_MS: i64 = 3_600_000;
/// How often an agent reports.
const INTERVAL_MS: i64 = 1_000;
/// How long pods stay on a node that is missed.
const TOLERATION_MS: i64 = 2_000;
/// What counts for a node of which too little was heard.
const GRACE_MS: i64 = 40_000;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: i64) -> i64 {
        i64::try_from(self.next() % u64::try_from(end).expect("above 0")).expect("below it")
    }

    fn one_in(&mut self, many: i64) -> bool {
        self.below(many) == 0
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Default)]
struct Trouble {
    /// A report is late by up to this.
    jitter_ms: i64,
    /// One report in so many is lost; the agent notices after two seconds, and reports anew at once.
    lost_one_in: i64,
    /// Before one report in so many the agent does not run for a while.
    pause_one_in: i64,
    pause_ms: (i64, i64),
    /// Each ten minutes the server does not run for so long; what arrives meanwhile is heard afterwards.
    server_pause_ms: i64,
    /// Whether the server excuses what it could not hear.
    excuses: bool,
}

/// What came of an hour.
#[derive(Debug, Default)]
struct Outcome {
    reports: u64,
    /// How often nodes that lived were missed, and how often their pods were given up.
    missed: u64,
    given_up: u64,
    /// How long after its death a node was missed that was heard as well as those.
    detected_ms: Vec<i64>,
}

fn hour(trouble: Trouble, seed: u64) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rng = Rng(seed);
    for _ in 0..NODES {
        let mut world = World::default();
        let name = "n".to_owned();
        let (mut sent, mut heard) = (0, 0);
        world.hear(&Signal::Heartbeat { node: name.clone(), at: Timestamp::from_millis(0) });
        while sent < HOUR_MS {
            sent += INTERVAL_MS;
            if trouble.pause_one_in > 0 && rng.one_in(trouble.pause_one_in) {
                sent += trouble.pause_ms.0 + rng.below(trouble.pause_ms.1 - trouble.pause_ms.0 + 1);
            }
            while trouble.lost_one_in > 0 && rng.one_in(trouble.lost_one_in) {
                sent += 2_000;
            }
            let mut at = sent + rng.below(trouble.jitter_ms + 1);
            let began = sent / 600_000 * 600_000;
            let is_paused =
                trouble.server_pause_ms > 0 && began > 0 && at < began + trouble.server_pause_ms;
            let mut excused = heard;
            if is_paused {
                at = began + trouble.server_pause_ms;
                if trouble.excuses {
                    world.hear(&Signal::Excused {
                        node: name.clone(),
                        at: Timestamp::from_millis(at),
                    });
                    excused = at;
                }
            }
            let limit = world.signal(&name).silence_ms().unwrap_or(GRACE_MS).min(GRACE_MS);
            let late = at - excused - limit;
            outcome.missed += u64::from(late > 0);
            outcome.given_up += u64::from(late > TOLERATION_MS);
            world.hear(&Signal::Heartbeat { node: name.clone(), at: Timestamp::from_millis(at) });
            (heard, sent) = (at.max(heard), at.max(sent));
            outcome.reports += 1;
        }
        let limit = world.signal(&name).silence_ms().unwrap_or(GRACE_MS).min(GRACE_MS);
        // It dies at any moment after its last report.
        outcome.detected_ms.push(limit - rng.below(INTERVAL_MS));
    }
    outcome.detected_ms.sort_unstable();
    outcome
}

fn told(what: &str, trouble: Trouble) -> Outcome {
    let outcome = hour(trouble, 7);
    let detected = &outcome.detected_ms;
    println!(
        "{what:<44} missed {:>5}, given up {:>4}; a dead one is missed after {} ms (median), {} ms (longest)",
        outcome.missed,
        outcome.given_up,
        detected[detected.len() / 2],
        detected[detected.len() - 1],
    );
    assert!(outcome.reports > 100_000, "{} reports are no {NODES} hours", outcome.reports);
    outcome
}

#[test]
fn living_nodes_are_seldom_missed_and_dead_ones_soon() {
    println!("{NODES} nodes, an hour each:");
    let still = Trouble { jitter_ms: 50, ..Trouble::default() };
    let quiet = told("steady, up to 50 ms late", still);
    assert_eq!((quiet.missed, quiet.given_up), (0, 0));
    assert!(quiet.detected_ms.last().is_some_and(|longest| *longest < 3_000));

    let short = Trouble { pause_one_in: 60, pause_ms: (100, 900), ..still };
    let short = told("agents pause each minute, 0.1 to 0.9 s", short);
    assert_eq!(short.missed, 0, "shorter than a report");

    let long = Trouble { pause_one_in: 600, pause_ms: (1_000, 2_500), ..still };
    let long = told("agents pause each ten minutes, 1 to 2.5 s", long);
    assert_eq!(long.given_up, 0, "pods wait two seconds more");

    let lossy = told("one report in a hundred lost", Trouble { lost_one_in: 100, ..still });
    assert!(lossy.given_up * 1_000_000 < lossy.reports * 500, "{lossy:?}");
    let bad = told(
        "one report in ten lost, up to 500 ms late",
        Trouble { lost_one_in: 10, jitter_ms: 500, ..still },
    );
    assert!(bad.missed * 100 < bad.reports * 5, "{bad:?}");

    let stopped = Trouble { server_pause_ms: 10_000, ..still };
    let blind = told("server pauses each ten minutes, 10 s", stopped);
    let excused =
        told("the same, and excuses what it did not hear", Trouble { excuses: true, ..stopped });
    assert!(blind.given_up >= NODES, "without it the test shows nothing: {blind:?}");
    assert_eq!((excused.missed, excused.given_up), (0, 0), "a pause of its own condemns nobody");
}
