//! Who named a queue, and what the configuration may claim.

use waypost_core::queue::Settings;
use waypost_log::Incarnation;
use waypost_shard::ManageError;
use waypost_wire::Code;

use crate::harness::World;

fn other() -> Settings {
    Settings {
        deliver_max: 3,
        ..Settings::default()
    }
}

impl World {
    fn ensure(&mut self, source: &'static str, settings: Settings) -> Result<(), ManageError> {
        let incarnation = Incarnation::new(77).unwrap();
        self.shard.ensure_queue("q", settings, incarnation, source)
    }
}

#[test]
fn the_configuration_does_not_take_a_queue_that_the_network_made() {
    let mut world = World::new(&[("q", Settings::default())]);
    for _ in 0..2 {
        let error = world.ensure("config", other()).unwrap_err();
        assert_eq!(error.code(), Code::Exists);
        assert!(error.to_string().contains("over the network"), "{error}");
        world.restart();
    }
    assert_eq!(
        world.shard.queue("q").unwrap().settings,
        Settings::default()
    );
    // Other settings do not change who made it.
    world.shard.set_queue("q", other()).unwrap();
    world.restart();
    assert!(world.ensure("config", other()).is_err());
}

#[test]
fn the_configuration_takes_again_what_it_made() {
    let mut world = World::new(&[]);
    world.ensure("config", Settings::default()).unwrap();
    world.restart();
    // In between the file did not name it.
    world.restart();
    world.ensure("config", other()).unwrap();
    world.restart();
    assert_eq!(world.shard.queue("q").unwrap().settings, other());
    world.ensure("config", other()).unwrap();
    assert_eq!(world.shard.queue("q").unwrap().source, "config");
}
