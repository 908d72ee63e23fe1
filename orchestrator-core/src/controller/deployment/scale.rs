//! What a changed number of replicas does to replica sets that share the pods in the middle of a rollout.

use super::Run;
use super::rolling::clamp;

impl Run<'_> {
    /// Whether the wanted number changed since the replica sets were sized.
    pub(super) fn is_rescaled(&self) -> bool {
        self.members.iter().any(|member| {
            member.wanted() > 0
                && member.is_editable()
                && member.desired().is_some_and(|desired| desired != self.bounds.wanted)
        })
    }

    /// Sizes replica sets for the wanted number without rolling.
    pub(super) fn scale(&mut self) {
        let mut active: Vec<_> = (0..self.members.len()).collect();
        active.retain(|index| self.members[*index].is_editable());
        let newest = active.iter().copied().max_by_key(|index| self.members[*index].age());
        active.retain(|index| self.members[*index].wanted() > 0);
        match active[..] {
            [] => {
                if let Some(only) = self.current.or(newest) {
                    self.scale_only(only);
                }
            }
            [only] => self.scale_only(only),
            _ if self.is_rescaled() && self.bounds.rolling => self.share_out(active),
            _ => {}
        }
    }

    fn scale_only(&mut self, only: usize) {
        let (has, wanted) = (self.members[only].wanted(), self.bounds.wanted);
        let size = if has > wanted { wanted } else { has + self.room().min(wanted - has) };
        if size != has || self.members[only].desired() != Some(wanted) {
            self.resize(only, size);
        }
    }

    /// Changes each set in proportion to its size, and gives what rounding leaves to the largest. Growing favours
    /// new sets, shrinking takes from old ones.
    fn share_out(&mut self, mut active: Vec<usize>) {
        let allowed = if self.bounds.wanted > 0 { self.bounds.max } else { 0 };
        let total: i64 = active.iter().map(|index| i64::from(self.members[*index].wanted())).sum();
        let change = match clamp(i64::from(allowed) - total) {
            up if up >= 0 => up.min(self.room()),
            down => down,
        };
        active.sort_by_key(|index| self.members[*index].age());
        if change > 0 {
            active.reverse();
        }
        active.sort_by_key(|index| self.members[*index].size());
        let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
        let mut left = change;
        for index in &active {
            let member = &self.members[*index];
            let before = member.max().filter(|max| *max > 0).map_or(total, i64::from).max(1);
            let scaled = i128::from(member.wanted()) * i128::from(allowed) * 2 + i128::from(before);
            let scaled = i64::try_from(scaled / (i128::from(before) * 2)).unwrap_or(i64::MAX);
            let share = clamp(scaled).saturating_sub(member.wanted());
            let share =
                if change > 0 { share.clamp(0, left.max(0)) } else { share.clamp(left.min(0), 0) };
            left -= share;
            sizes.push(member.wanted() + share);
        }
        for size in &mut sizes {
            let more = left.max(-*size);
            *size += more;
            left -= more;
        }
        if change < 0 {
            self.keep_available(&active, &mut sizes);
        }
        for (index, size) in active.into_iter().zip(sizes) {
            self.resize(index, size);
        }
    }

    /// Moves places from sets that would use them for broken pods to sets that would give up available ones, until
    /// enough stay available.
    fn keep_available(&self, active: &[usize], sizes: &mut [i32]) {
        let has = |at: usize| self.members[active[at]].counts.available;
        let all = 0..active.len();
        let kept: i32 = all.clone().map(|at| has(at).min(sizes[at])).sum();
        let mut lacking = self.bounds.least - kept;
        for to in all.clone() {
            for from in all.clone() {
                let moved = (has(to) - sizes[to]).min(sizes[from] - has(from)).min(lacking).max(0);
                sizes[to] += moved;
                sizes[from] -= moved;
                lacking -= moved;
            }
        }
    }
}
