//! Deliberate bugs, one at a time, to show that the simulator finds them. Only with the feature `mutants`, and
//! then only where a test turns one on; without it every check is a constant `false`.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Binds in flight do not count when the next pod is placed.
    FlightsForgotten,
    /// An owner is recognised by its name, not its uid.
    GarbageByName,
    /// A pod is taken to be gone before its agent has said that nothing is left of it.
    GoneUnconfirmed,
    /// Every seventh commit wakes nobody.
    LostEvent,
    /// Pod names depend on when they are made.
    NamesByRevision,
    /// Work goes on before it has seen what it wrote itself.
    NoRevisionBarrier,
    /// A replica set writes a pod without the guard that it still wants it.
    NoScaleGuard,
    /// The store in memory writes whatever the preconditions say.
    PreconditionsIgnored,
    /// A rolling update takes old pods away without waiting for new ones.
    RolloutUnbounded,
    /// A pod that fitted nowhere is not tried again when room appears.
    UnfitForgotten,
}

impl Mutant {
    /// Every deliberate bug.
    pub const ALL: [Self; 10] = [
        Self::FlightsForgotten,
        Self::GarbageByName,
        Self::GoneUnconfirmed,
        Self::LostEvent,
        Self::NamesByRevision,
        Self::NoRevisionBarrier,
        Self::NoScaleGuard,
        Self::PreconditionsIgnored,
        Self::RolloutUnbounded,
        Self::UnfitForgotten,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether a deliberate bug is on in this thread.
#[cfg(feature = "mutants")]
pub(crate) fn on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Whether a deliberate bug is on: never.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

/// Runs `body` with a deliberate bug turned on in this thread.
#[cfg(feature = "mutants")]
pub fn with<T>(mutant: Mutant, body: impl FnOnce() -> T) -> T {
    ON.set(Some(mutant));
    let result = body();
    ON.set(None);
    result
}
