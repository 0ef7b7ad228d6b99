//! Errors that reach every member of a group.

use serde::{Deserialize, Serialize};

use super::Collective;
use crate::{Error, Result};

/// Exchanges `mine` with every member and returns all by rank. If any member failed, all
/// fail: that one with its own error, the others with [`Error::Peer`]. What one member does alone
/// (reading data, writing a checkpoint) must go through here before the next collective operation,
/// else the others would wait for one that never comes.
///
/// # Errors
/// `mine`, [`Error::Peer`], or [`Error::Group`] if the group itself broke.
///
/// ```
/// use pad_train::{Collective, collective::{LocalGroup, agree}};
/// let said = std::thread::scope(|scope| {
///     let start = |group: LocalGroup| scope.spawn(move || agree(&group, Ok(group.rank() + 10)));
///     let threads: Vec<_> = LocalGroup::members(2).into_iter().map(start).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect::<Vec<_>>()
/// });
/// assert_eq!(said, [[10, 11], [10, 11]]);
/// ```
pub fn agree<T: Clone + Serialize + for<'de> Deserialize<'de>>(
    group: &(impl Collective + ?Sized),
    mine: Result<T>,
) -> Result<Vec<T>> {
    Ok(agree_by(group, mine, T::clone)?.1)
}

/// [`agree`] for what cannot be sent: `say` makes the message to the others.
pub(crate) fn agree_by<T, M: Serialize + for<'de> Deserialize<'de>>(
    group: &(impl Collective + ?Sized),
    mine: Result<T>,
    say: impl FnOnce(&T) -> M,
) -> Result<(T, Vec<M>)> {
    let said = match &mine {
        // The group broke: no other member listens.
        Err(Error::Group { .. } | Error::Peer { .. }) => None,
        Err(error) => Some(Err(error.to_string())),
        Ok(value) => Some(Ok(say(value))),
    };
    let said = match said {
        Some(Ok(said)) if group.world_size() == 1 => return Ok((mine?, vec![said])),
        Some(said) if group.world_size() > 1 => said,
        _ => return mine.map(|value| (value, Vec::new())),
    };
    let broken = |what: String| Error::Group {
        rank: group.rank(),
        world_size: group.world_size(),
        what: format!("message of another process: {what}"),
    };
    let message = serde_json::to_vec(&said).map_err(|error| broken(error.to_string()))?;
    let messages = group.all_gather(&message);
    // The own error comes before any error of the exchange.
    let mine = mine?;
    let said = messages?.into_iter().enumerate().map(|(rank, message)| {
        let said = serde_json::from_slice::<Result<M, String>>(&message);
        said.map_err(|error| broken(error.to_string()))?.map_err(|what| Error::Peer { rank, what })
    });
    Ok((mine, said.collect::<Result<_>>()?))
}
