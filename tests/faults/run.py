"""Breaks what is between a store and its clients, again and again, and judges what the clients saw.

    ./dev faults [COUNT] [--seed SEED] [--round ROUND] [--longest SECONDS] [--json]

A store and two clients, one over UCX and one over gRPC, in network namespaces of their own. The
clients look up, load, publish and connect all the time, each call with a deadline of 0.2 to 3
seconds, and check what they load. Each round breaks something at a random moment for 0.3 to 3
seconds (--longest): the store is killed (and started again, empty) or stopped, the cable between
them is switched off at one end, or everything in one direction is lost. Then every kind of call
must succeed again by itself.

Exit status 0 when everything held: no call ended more than 250 ms after its deadline, of those that
ran into it 1 % more than 50 ms, beyond what a bare timer of the same process was late; every status
and byte was one that is allowed; and calls of every kind succeeded within 10 seconds after the
cause was gone. Else 1, and lines that say what did not hold. For root: it makes namespaces.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.calls import KINDS, Call, Tally
from tests.faults.network import STORE_ADDRESS, Network, NetworkError

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build" / "release" / "bin"
CARRIERS = ("ucx", "grpc")
FAULTS = ("kill", "stop", "store off", "clients off", "loss to clients", "loss to store")
MEMORY = "384MiB"
GRPC = f"{STORE_ADDRESS}:7070"
DATA = f"{STORE_ADDRESS}:7071"
LONGEST_S = 3.0
LATE_P99_MS = 50.0
LATE_MAX_MS = 250.0
HEAL_S = 10.0
# After that long nothing will heal any more.
GIVE_UP_S = 40.0
START_S = 60.0


class CampaignError(Exception):
    """The campaign itself could not go on."""


def say(words: str) -> None:
    print(f"   {words}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Round:
    """What one round does: the same for the same seed and number."""

    number: int
    fault: str
    calm_s: float
    lasts_s: float

    @classmethod
    def draw(cls, seed: int, number: int, longest_s: float = LONGEST_S) -> Round:
        drawn = random.Random(f"{seed}/{number}")
        # Each fault as often as the others; their order within each six is drawn too.
        order = random.Random(f"{seed}/order/{number // len(FAULTS)}").sample(FAULTS, len(FAULTS))
        fault = order[number % len(FAULTS)]
        return cls(number, fault, drawn.uniform(0.1, 0.6), drawn.uniform(0.3, longest_s))


class Store:
    """A store that can be killed, stopped and started again at the same addresses."""

    def __init__(self, network: Network) -> None:
        self._command = [*network.store.command, str(PROGRAMS / "reprise"), "store"]
        self._command += ["--listen", GRPC, "--data", DATA, "--metrics", "off"]
        self._command += ["--memory", MEMORY, "--log-level", "off"]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        if not process.stdout.readline().startswith("ready"):
            raise CampaignError(f"the store ended with {process.wait()} before it was ready")
        return process

    def signal(self, number: int) -> None:
        if self._process.poll() is not None:
            raise CampaignError(f"the store ended with {self._process.returncode}")
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def start_again(self) -> None:
        self._process = self._start()


class Client:
    """A client process. What it reports is counted as it comes, and `news` told when it matters."""

    def __init__(
        self, network: Network, carrier: str, seed: int, verbose: bool, news: threading.Condition
    ) -> None:
        self.carrier = carrier
        self.tally = Tally()
        self._verbose = verbose
        self._news = news
        self.ended = False
        self._healthy_since: dict[str, float] = {}
        self._watched_from = 0.0
        command = [*network.clients.command, str(PROGRAMS / "fault_client"), GRPC, carrier]
        self._process = subprocess.Popen(
            [*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            raise CampaignError(f"the {carrier} client ended with {self._process.wait()}")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # The next three are called with the lock of `news`.

    def watch_from(self, moment: float) -> None:
        self._watched_from = moment
        self._healthy_since.clear()

    def healed(self) -> tuple[float, str] | None:
        """When the last kind of call had succeeded, and which; None while one has not."""
        if self.ended:
            raise CampaignError(f"the {self.carrier} client ended with {self._process.wait()}")
        if len(self._healthy_since) < len(KINDS):
            return None
        return max((moment, kind) for kind, moment in self._healthy_since.items())

    def waits_for(self) -> str:
        return ", ".join(kind for kind in KINDS if kind not in self._healthy_since)

    def finish(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            status = self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            raise CampaignError(f"the {self.carrier} client does not end") from None
        self._reader.join()
        if status != 0:
            raise CampaignError(f"the {self.carrier} client ended with {status}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            call = Call.parse(line)
            if self._verbose and call.kind in KINDS and call.late_ms > LATE_P99_MS:
                say(f"{self.carrier}: {line.rstrip()}, {call.late_ms:.0f} ms late")
            self.tally.add(call)
            with self._news:
                if call.kind not in KINDS or call.end <= self._watched_from:
                    continue
                if call.shows_health and call.kind not in self._healthy_since:
                    self._healthy_since[call.kind] = call.end
                    self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()


class Campaign:
    """The processes, what breaks between them, and what was seen."""

    def __init__(
        self, network: Network, seed: int, verbose: bool, stack: contextlib.ExitStack
    ) -> None:
        self._network = network
        self._news = threading.Condition()
        self.rounds: Counter[str] = Counter()
        self.heals: dict[str, list[tuple[float, str, int]]] = {name: [] for name in CARRIERS}
        self._store = Store(network)
        stack.callback(self._store.kill)
        self.clients: list[Client] = []
        for number, carrier in enumerate(CARRIERS):
            # Other tokens and bytes each time.
            client = Client(network, carrier, 2 * seed + number + 1, verbose, self._news)
            stack.callback(client.kill)
            self.clients.append(client)
        self._await_health(time.monotonic())

    def play(self, one: Round) -> None:
        self._let_pass(one.calm_s)
        with self._broken(one.fault):
            self._let_pass(one.lasts_s)
        gone = time.monotonic()
        healed = self._await_health(gone)
        self.rounds[one.fault] += 1
        for carrier, (seconds, _) in healed.items():
            self.heals[carrier].append((seconds, one.fault, one.number))
        heals = ", ".join(
            f"{carrier} {seconds:.2f} s ({last})" for carrier, (seconds, last) in healed.items()
        )
        say(f"round {one.number}: {one.fault} for {one.lasts_s:.2f} s; healed: {heals}")

    def finish(self) -> None:
        for client in self.clients:
            client.finish()

    @contextlib.contextmanager
    def _broken(self, fault: str) -> Iterator[None]:
        network = self._network
        ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "kill": (self._store.kill, self._store.start_again),
            "stop": (
                lambda: self._store.signal(signal.SIGSTOP),
                lambda: self._store.signal(signal.SIGCONT),
            ),
            "store off": (
                lambda: network.cut(network.store),
                lambda: network.mend(network.store),
            ),
            "clients off": (
                lambda: network.cut(network.clients),
                lambda: network.mend(network.clients),
            ),
            "loss to clients": (
                lambda: network.lose(network.store, network.clients),
                lambda: network.deliver(network.store, network.clients),
            ),
            "loss to store": (
                lambda: network.lose(network.clients, network.store),
                lambda: network.deliver(network.clients, network.store),
            ),
        }
        start, end = ways[fault]
        start()
        yield
        end()

    def _await_health(self, since: float) -> dict[str, tuple[float, str]]:
        """Seconds until the last kind of call had succeeded, and which, of each client."""
        with self._news:
            for client in self.clients:
                client.watch_from(since)
            self._news.wait_for(
                lambda: all([client.healed() for client in self.clients]), timeout=GIVE_UP_S
            )
            found: dict[str, tuple[float, str]] = {}
            for client in self.clients:
                healed = client.healed()
                if healed is None:
                    raise CampaignError(
                        f"{GIVE_UP_S:.0f} s after the cause was gone, {client.carrier} still has "
                        f"no success of: {client.waits_for()}"
                    )
                found[client.carrier] = (healed[0] - since, healed[1])
            return found

    def _let_pass(self, seconds: float) -> None:
        """Time goes by, unless a client ends."""
        with self._news:
            self._news.wait_for(lambda: any(client.ended for client in self.clients), seconds)


def judge(campaign: Campaign) -> list[str]:
    """What did not hold, in words."""
    problems = []
    for client in campaign.clients:
        tally, name = client.tally, client.carrier
        if tally.wrong:
            problems.append(f"{name}: {tally.wrong} loads brought wrong bytes")
        problems += [
            f"{name}: {count} times {outcome}" for outcome, count in tally.unexpected.items()
        ]
        late, timer = tally.all_calls().figures(), tally.lateness["timer"].figures()
        for figure, bound in (("p99_ms", LATE_P99_MS), ("max_ms", LATE_MAX_MS)):
            if late[figure] > bound + timer[figure]:
                problems.append(
                    f"{name}: {late[figure]:.1f} ms late ({figure[:3]}) where {bound:.0f} are "
                    f"allowed and a bare timer is {timer[figure]:.1f} ms late"
                )
        for seconds, fault, number in campaign.heals[name]:
            if seconds > HEAL_S:
                problems.append(f"{name}: {seconds:.1f} s to heal, round {number} ({fault})")
    return problems


def report(campaign: Campaign, seed: int, problems: list[str]) -> dict[str, object]:
    clients: dict[str, object] = {}
    for client in campaign.clients:
        tally = client.tally
        seconds = [heal for heal, _, _ in campaign.heals[client.carrier]]
        clients[client.carrier] = {
            "late": tally.all_calls().figures(),
            "late_by_kind": {kind: tally.lateness[kind].figures() for kind in KINDS},
            "timer": tally.lateness["timer"].figures(),
            "outcomes": dict(sorted(tally.outcomes.items())),
            "wrong": tally.wrong,
            "longest_heal_s": round(max(seconds, default=0.0), 3),
            "longest_close_ms": round(tally.longest_close_ms, 1),
        }
    rounds = dict(sorted(campaign.rounds.items()))
    return {"seed": seed, "rounds": rounds, "clients": clients, "problems": problems}


def show(found: dict[str, object]) -> None:
    print(f"seed {found['seed']}; rounds: {found['rounds']}")
    clients = found["clients"]
    assert isinstance(clients, dict)
    for name, figures in clients.items():
        late, timer = figures["late"], figures["timer"]
        print(
            f"{name}: {late['calls']} calls, {late['reached']} of them ran into their deadline and "
            f"ended p50 {late['p50_ms']:.1f}, p99 {late['p99_ms']:.1f}, at most "
            f"{late['max_ms']:.1f} ms after it (a bare timer: {timer['p50_ms']:.1f}, "
            f"{timer['p99_ms']:.1f}, {timer['max_ms']:.1f}); wrong: {figures['wrong']}; healed "
            f"within {figures['longest_heal_s']:.2f} s; closed within "
            f"{figures['longest_close_ms']:.0f} ms"
        )
        for kind, of_kind in figures["late_by_kind"].items():
            print(
                f"  {kind}: {of_kind['calls']} calls, {of_kind['reached']} ran into their "
                f"deadline, p99 {of_kind['p99_ms']:.1f}, at most {of_kind['max_ms']:.1f} ms after"
            )
        outcomes = ", ".join(f"{word} {count}" for word, count in figures["outcomes"].items())
        print(f"  {outcomes}")


def run(rounds: list[Round], seed: int, verbose: bool) -> dict[str, object]:
    """Plays the rounds. NetworkError where no network can be made."""
    with Network() as network, contextlib.ExitStack() as stack:
        campaign = Campaign(network, seed, verbose, stack)
        problems: list[str] = []
        try:
            for one in rounds:
                campaign.play(one)
            campaign.finish()
        except CampaignError as error:
            problems.append(str(error))
            for client in campaign.clients:
                client.kill()
        return report(campaign, seed, problems + judge(campaign))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./dev faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("count", nargs="?", type=int, default=200, help="rounds (200)")
    parser.add_argument("--seed", type=int, default=1, help="of the rounds and all bytes (1)")
    parser.add_argument("--round", type=int, help="play only that one")
    parser.add_argument("--longest", type=float, default=LONGEST_S, help="seconds of a fault (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    numbers = range(arguments.count) if arguments.round is None else [arguments.round]
    rounds = [Round.draw(arguments.seed, number, arguments.longest) for number in numbers]
    try:
        found = run(rounds, arguments.seed, verbose=True)
    except (NetworkError, CampaignError) as error:
        print(f"faults: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps({"faults": found}))
    else:
        show(found)
    problems = found["problems"]
    assert isinstance(problems, list)
    for problem in problems:
        print(f"faults: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
