//! How old pods make way for new ones: rolling within bounds, or all at once.
//!
//! What must hold for every step (S28): pods never exceed the wanted number plus the surge, counting what replica
//! sets have and what they may still make; available pods are never given up below the wanted number less what
//! may be missing, counting what replica sets are still to give up.

use super::Run;
use crate::mutants::{self, Mutant};

impl Run<'_> {
    /// Takes the next steps of a rolling update.
    pub(super) fn roll(&mut self) {
        let room = self.room();
        match self.current {
            None => {
                self.create_current(room.min(self.bounds.wanted));
                return;
            }
            Some(current) => self.size_current(current, room),
        }
        self.shrink_old();
    }

    /// Stops all old pods, waits until they are gone, and starts new ones.
    pub(super) fn recreate(&mut self) {
        let current = self.current;
        let mut waiting = false;
        for (index, old) in self.members.iter_mut().enumerate() {
            if Some(index) == current {
                continue;
            }
            if old.wanted() > 0 && old.is_editable() {
                old.resize(0, self.bounds.wanted, self.bounds.max);
            }
            waiting |= old.has_running_pods() || old.set.spec.replicas != Some(0);
        }
        if waiting {
            return;
        }
        match current {
            None => self.create_current(self.bounds.wanted),
            Some(current) if self.members[current].wanted() != self.bounds.wanted => {
                self.resize(current, self.bounds.wanted);
            }
            Some(_) => {}
        }
    }

    /// How many pods may be made before the surge is used up.
    pub(super) fn room(&self) -> i32 {
        let present: i64 = self.members.iter().map(|member| i64::from(member.present())).sum();
        clamp(i64::from(self.bounds.max) - present).max(0)
    }

    fn size_current(&mut self, current: usize, room: i32) {
        let (has, wanted) = (self.members[current].wanted(), self.bounds.wanted);
        let size = if has > wanted { wanted } else { has + room.min(wanted - has) };
        if size != has {
            self.resize(current, size);
        }
    }

    /// Shrinks old replica sets, the oldest first: what is broken, then what new available pods make good.
    fn shrink_old(&mut self) {
        let current = self.current;
        let wanted: i64 = self.members.iter().map(|member| i64::from(member.wanted())).sum();
        let available: i64 = self.members.iter().map(|member| i64::from(member.available())).sum();
        let missing_new = current.map_or(0, |current| {
            self.members[current].wanted() - self.members[current].available()
        });
        let spare = clamp(wanted - i64::from(self.bounds.least) - i64::from(missing_new));
        if spare <= 0 {
            return;
        }
        let mut old: Vec<_> = (0..self.members.len()).collect();
        old.retain(|index| Some(*index) != current && self.members[*index].is_editable());
        old.sort_by_key(|index| self.members[*index].age());
        let mut broken = spare;
        let mut made_good = clamp(available - i64::from(self.bounds.least)).max(0);
        if mutants::on(Mutant::RolloutUnbounded) {
            made_good = clamp(wanted);
        }
        for index in &old {
            let member = &self.members[*index];
            let gone = (member.wanted() - member.available()).min(broken);
            broken -= gone;
            if gone > 0 {
                self.resize(*index, self.members[*index].wanted() - gone);
            }
        }
        for index in old {
            let gone = self.members[index].wanted().min(made_good);
            made_good -= gone;
            if gone > 0 {
                self.resize(index, self.members[index].wanted() - gone);
            }
        }
    }
}

/// Brings a sum of counts back into their range.
pub(super) fn clamp(sum: i64) -> i32 {
    i32::try_from(sum).unwrap_or(if sum < 0 { i32::MIN } else { i32::MAX })
}
