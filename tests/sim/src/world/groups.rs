//! Groups are moved and removed while their consumers are at work.

use waypost_shard::Start;

use crate::invariants::Violation;
use crate::model::GroupModel;
use crate::world::World;

impl World {
    /// One of the groups of a queue.
    fn some_group(&mut self, name: &str) -> Option<String> {
        let life = self.model.live(name)?;
        let groups = &self.model.queues.get(&life)?.groups;
        let names: Vec<String> = groups.keys().cloned().collect();
        self.dice.pick(&names).cloned()
    }

    /// Moves a group: what its consumers hold is theirs no more, and all from there on comes.
    pub(crate) fn seek_group(&mut self, name: &str) -> Result<(), Violation> {
        let (Some(life), Some(group)) = (self.model.live(name), self.some_group(name)) else {
            return Ok(());
        };
        let to = match self.dice.below(4) {
            0 => Start::Beginning,
            1 => Start::End,
            2 => Start::Time(self.now().wall_ms - self.dice.below(self.now_ms)),
            _ => Start::Offset(self.dice.below(300)),
        };
        // What was let go of before is judged by the groups that there were.
        self.commit()?;
        let now = self.now();
        let floor = match self.shard.seek_group(now, name, &group, to) {
            Ok(floor) => floor,
            Err(error) => return self.failed("seek", &error),
        };
        self.trace
            .line(format!("seek {name}/{group} to {to:?}: {floor}"));
        if let Some(queue) = self.model.queues.get_mut(&life)
            && let Some(model) = queue.groups.get_mut(&group)
        {
            *model = GroupModel::new(floor, model.options.clone());
            queue.moved_groups.insert(group);
        }
        self.commit()
    }

    /// Removes a group; its consumers are closed.
    pub(crate) fn remove_group(&mut self, name: &str) -> Result<(), Violation> {
        let (Some(life), Some(group)) = (self.model.live(name), self.some_group(name)) else {
            return Ok(());
        };
        self.commit()?;
        let now = self.now();
        if let Err(error) = self.shard.remove_group(now, name, &group) {
            return self.failed("remove group", &error);
        }
        self.trace.line(format!("remove {name}/{group}"));
        if let Some(queue) = self.model.queues.get_mut(&life) {
            queue.groups.remove(&group);
            queue.moved_groups.insert(group.clone());
        }
        self.take_outputs()?;
        let left = self.consumers.values();
        let left = left.filter(|c| c.life == life && c.group == group).count();
        Violation::unless(left == 0, "progress", || {
            format!("{left} consumers of {name}/{group} are open after its removal")
        })?;
        self.commit()
    }
}
