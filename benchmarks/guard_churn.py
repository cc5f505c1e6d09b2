"""What happens to clusters on ordinary days, and on bad ones, for `benchmarks.guard`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.guard_cluster import (
    Life,
    World,
    delete_namespace,
    lose_nodes,
    recreate,
    roll_out,
    scale,
    together,
)

DAY_S = 86_400.0
Kind = Callable[[World], Life]


def _spread(world: World, count: int, make: Callable[[], Life], over_s: float = DAY_S) -> Life:
    """Let `count` things begin at random moments."""
    yield from together((world.rng.uniform(0, over_s), _late(make)) for _ in range(count))


def _late(make: Callable[[], Life]) -> Life:
    yield from make()


def rollouts(world: World) -> Life:
    """Roll out a tenth of all apps, a twentieth of them by Recreate."""
    lives = [(world.rng.uniform(0, DAY_S), roll_out(world, app)) for app in world.some(0.1)]
    lives += [(world.rng.uniform(0, DAY_S), recreate(world, app)) for app in world.some(0.005)]
    yield from together(lives)


def scale_to_zero(world: World) -> Life:
    """Scale a twentieth of all apps to zero in an hour, and up again later."""
    apps = [(app, len(app.pods)) for app in world.some(0.05)]
    yield from together((world.rng.uniform(0, 3600), scale(world, app, 0)) for app, _ in apps)
    yield 8 * 3600
    yield from together((world.rng.uniform(0, 3600), scale(world, app, count)) for app, count in apps)


def delete_small_namespaces(world: World) -> Life:
    """Delete three namespaces of fewer than 10 Services."""
    names = sorted(name for name, count in world.sizes().items() if count < 10)[:3]
    yield from together((world.rng.uniform(0, DAY_S), delete_namespace(world, name)) for name in names)


def delete_middling_namespace(world: World) -> Life:
    """Delete the largest namespace with fewer than 50 Services."""
    sizes = {name: count for name, count in world.sizes().items() if 10 <= count < 50}
    if sizes:
        yield from delete_namespace(world, max(sizes, key=lambda name: (sizes[name], name)))


def upgrade_nodes(world: World) -> Life:
    """Drain every node in turn, one at a time; pods start elsewhere within 40 s."""
    for node in range(world.nodes):
        yield from lose_nodes(world, {node}, lambda: world.rng.uniform(3, 40))
        yield 60.0


def lose_a_node(world: World) -> Life:
    """Lose one node for good."""
    yield from lose_nodes(world, {world.rng.randrange(world.nodes)}, lambda: world.rng.uniform(30, 300))


def lose_a_zone(world: World) -> Life:
    """Lose every third node at once."""
    yield from lose_nodes(world, set(range(0, world.nodes, 3)), lambda: world.rng.uniform(60, 400))


def scale_in(world: World) -> Life:
    """Scale in by 10 to 30 % over ten minutes at night: autoscaler and HPA."""
    share = world.rng.uniform(0.1, 0.3)
    lives = []
    for app in world.some(1.0):
        if len(app.pods) > 1:
            count = max(1, round(len(app.pods) * (1 - share)))
            lives.append((world.rng.uniform(0, 600), scale(world, app, count)))
    yield from together(lives)


def restart_a_namespace(world: World) -> Life:
    """Restart everything in the largest namespace at once."""
    sizes = world.sizes()
    name = max(sizes, key=lambda each: (sizes[each], each))
    yield from together((0.0, roll_out(world, app)) for app in world.of(name))


def restart_everything(world: World) -> Life:
    """Restart every app within ten minutes."""
    yield from together((world.rng.uniform(0, 600), roll_out(world, app)) for app in world.some(1.0))


def blue_green(world: World) -> Life:
    """Replace a twentieth of all Services by new ones of another name, an hour after those came up."""
    pairs = [(app, world.create(app.namespace, f"{app.name}-green", len(app.pods))) for app in world.some(0.05)]
    yield 3600.0
    for app, _ in pairs:
        world.delete(app)
        yield 2.0


def reinstall_a_chart(world: World) -> Life:
    """Uninstall a chart of up to 15 Services, and install it again half a minute later."""
    sizes = world.sizes()
    name = max(sizes, key=lambda each: (sizes[each], each))
    apps = world.of(name)[:15]
    for app in apps:
        world.delete(app)
        yield 0.1
    yield 30.0
    for app in apps:
        world.create(app.namespace, app.name, len(app.pods))
        yield 0.1


def previews(world: World) -> Life:
    """Open and close ten preview namespaces of 2 to 8 Services."""
    yield from _spread(world, 10, lambda: _visit(world, world.rng.randint(2, 8), world.rng.uniform(1800, 14_400)))


def nightly_batch(world: World) -> Life:
    """Open three namespaces of 5 to 15 Services at night, and close them in the morning."""
    yield from _spread(world, 3, lambda: _visit(world, world.rng.randint(5, 15), 6 * 3600), 1800.0)


def _visit(world: World, services: int, for_s: float) -> Life:
    name = f"visit-{world.rng.randrange(10**9)}"
    for number in range(services):
        world.create(name, f"app-{number}", world.rng.randint(1, 4))
        yield 1.0
    yield for_s
    yield from delete_namespace(world, name)


def silent_gap(world: World) -> Life:
    """Hear nothing for four hours in which a tenth of the apps are rolled out, then a full list of each kind."""
    yield -1.0
    for app in world.some(0.1):
        app.pods = [world.pod() for _ in app.pods]
        world.say(app)
    for app in world.some(0.02):
        world.delete(app)
    yield 4 * 3600.0


ORDINARY: dict[str, Kind] = {
    "roll-outs of a tenth of the apps": rollouts,
    "a twentieth scaled to zero and back": scale_to_zero,
    "three small namespaces deleted": delete_small_namespaces,
    "a namespace of 10-49 Services deleted": delete_middling_namespace,
    "every node drained in turn": upgrade_nodes,
    "a node lost": lose_a_node,
    "a zone lost (a third of the nodes)": lose_a_zone,
    "scaled in by 10-30 %": scale_in,
    "the largest namespace restarted": restart_a_namespace,
    "everything restarted in 10 minutes": restart_everything,
    "blue/green of a twentieth": blue_green,
    "a chart of 15 Services reinstalled": reinstall_a_chart,
    "ten preview namespaces": previews,
    "three nightly batch namespaces": nightly_batch,
    "a full list after 4 hours of silence": silent_gap,
}


# Bad days ---------------------------------------------------------------------------------------------------------


def services_emptied(world: World) -> Life:
    """List no Service at all (AWS DynamoDB 2025-10, writ large)."""
    yield -1.0
    for app in list(world.apps.values()):
        world.delete(app)
    yield 60.0


def half_gone(world: World) -> Life:
    """List half of the Services."""
    yield -1.0
    for app in world.some(0.5):
        world.delete(app)
    yield 60.0


def pruned(per_s: float) -> Kind:
    """Delete every Service one by one."""

    def live(world: World) -> Life:
        for app in world.some(1.0):
            world.delete(app)
            yield 1.0 / per_s

    return live


def all_unready(over_s: float) -> Kind:
    """Make every endpoint unready (kubernetes#23034, a node controller gone wild)."""

    def live(world: World) -> Life:
        apps = world.some(1.0)
        for app in apps:
            app.pods = []
            world.say(app)
            if over_s:
                yield over_s / len(apps)
        yield 1.0

    return live


def largest_namespace(world: World) -> Life:
    """Delete the largest namespace by accident."""
    sizes = world.sizes()
    yield from delete_namespace(world, max(sizes, key=lambda name: (sizes[name], name)), per_s=100.0)


def api_server_gone(world: World) -> Life:
    """Delete kubernetes.default."""
    world.delete(world.apps["default/kubernetes"])
    yield 1.0


def oversized(world: World) -> Life:
    """List twelve times as many Services (Cloudflare 2025-11)."""
    yield -1.0
    for number in range(len(world.apps) * 12):
        world.create("flood", f"x{number}", 0)
    yield 60.0


def one_emptied(world: World) -> Life:
    """Take the endpoints of one Service away."""
    yield from scale(world, world.some(0.001)[0], 0)


def asleep(world: World) -> Life:
    """Scale everything to zero at night, within two minutes: what is put to sleep on purpose looks like an incident."""
    yield from together((world.rng.uniform(0, 120), scale(world, app, 0)) for app in world.some(1.0))


BAD: dict[str, Kind] = {
    "a list without Services": services_emptied,
    "a list with half of the Services": half_gone,
    "Services deleted, 100/s": pruned(100.0),
    "Services deleted, 10/s": pruned(10.0),
    "Services deleted, 1/s": pruned(1.0),
    "all endpoints unready at once": all_unready(0.0),
    "all endpoints unready over 30 s": all_unready(30.0),
    "all endpoints unready over 10 min": all_unready(600.0),
    "the largest namespace deleted": largest_namespace,
    "kubernetes.default deleted": api_server_gone,
    "a list twelve times as large": oversized,
    "endpoints of one Service gone": one_emptied,
    "everything scaled to zero in 2 min, on purpose": asleep,
}


def names() -> Iterator[str]:
    """List everything that can happen."""
    yield from (*ORDINARY, *BAD)
