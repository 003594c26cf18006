//! The assignment of partitions to the members of a group.

use std::collections::BTreeMap;

use super::group::MemberId;

/// Spreads the partitions of one topic over the members that want it, as evenly as they go.
///
/// A member keeps its partitions unless they exceed its fair share. `load` counts each member's
/// partitions of the topics spread before, and is updated: remainders go to the members with the
/// lowest load.
pub(super) fn spread(
    owners: &[Option<MemberId>],
    members: &[MemberId],
    load: &mut BTreeMap<MemberId, usize>,
) -> Vec<Option<MemberId>> {
    if members.is_empty() {
        return vec![None; owners.len()];
    }
    let share = owners.len() / members.len();
    let mut odd = owners.len() % members.len();
    let mut counts: BTreeMap<MemberId, usize> = members.iter().map(|m| (*m, 0)).collect();
    let mut spread = vec![None; owners.len()];
    for (partition, owner) in spread.iter_mut().zip(owners) {
        let Some((owner, count)) = owner.and_then(|o| Some((o, counts.get_mut(&o)?))) else {
            continue;
        };
        if *count < share || (*count == share && odd > 0) {
            odd -= usize::from(*count == share);
            *count += 1;
            *partition = Some(owner);
        }
    }
    for partition in spread.iter_mut().filter(|partition| partition.is_none()) {
        let all = |member: &MemberId| load.get(member).copied().unwrap_or_default();
        let least = counts.iter_mut().min_by_key(|(member, count)| (**count, all(member)));
        if let Some((member, count)) = least {
            *count += 1;
            *partition = Some(*member);
        }
    }
    for (member, count) in counts {
        *load.entry(member).or_default() += count;
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread_one(owners: &[Option<u64>], members: &[u64]) -> Vec<Option<u64>> {
        spread(owners, members, &mut BTreeMap::new())
    }

    #[test]
    fn a_lone_member_has_all_partitions() {
        assert_eq!(spread_one(&[None, None, Some(9)], &[1]), [Some(1); 3]);
    }

    #[test]
    fn a_member_above_its_share_releases_partitions() {
        assert_eq!(spread_one(&[Some(1); 4], &[1, 2]), [Some(1), Some(1), Some(2), Some(2)]);
        assert_eq!(spread_one(&[Some(2); 3], &[1, 2]), [Some(2), Some(2), Some(1)]);
    }

    #[test]
    fn other_members_keep_their_partitions_when_one_leaves() {
        let owners = [Some(1), Some(2), Some(3), Some(2)];
        assert_eq!(spread_one(&owners, &[2, 3]), [Some(3), Some(2), Some(3), Some(2)]);
    }

    #[test]
    fn more_members_than_partitions_leave_some_idle() {
        assert_eq!(spread_one(&[None, Some(3)], &[1, 2, 3]), [Some(1), Some(3)]);
    }

    #[test]
    fn remainders_go_to_the_member_with_the_fewest_partitions() {
        let mut load = BTreeMap::new();
        assert_eq!(spread(&[None], &[1, 2], &mut load), [Some(1)]);
        assert_eq!(spread(&[None], &[1, 2], &mut load), [Some(2)]);
    }
}
