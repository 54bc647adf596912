"""Open cases to another version of their specification: one or all, with a dry run that tells each case's fate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs

from knhk._cache import CaseCache
from knhk._codes import Phase
from knhk._compiled import Compiled
from knhk._migration import Moved, Renaming, move
from knhk._recording import SNAPSHOT_EVERY
from knhk._resident import Resident
from knhk.errors import CommandError, ConcurrentUpdate, DataError, KnhkError, MigrationRefused, Problem
from knhk.ports import CaseHeader, Durability

_OVER = (Phase.COMPLETED.value, Phase.CANCELLED.value)
_TRIES = 3


@attrs.frozen(kw_only=True)
class CaseMigration:
    """
    What became of one case, or would.

    Args:
        case_id: which.
        source, target: the version that it had, and the one that it was to get.
        problems: why it stays where it is, each with its place in the case; none: it moves.
        withdrawn: the paths of the tasks that were on offer and have no place in the new version.
    """

    case_id: str
    source: str
    target: str
    problems: tuple[Problem, ...] = ()
    withdrawn: tuple[str, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether the case has a place in the new version."""
        return not self.problems


@attrs.frozen(kw_only=True)
class MigrationReport:
    """
    What became of many cases, or would.

    Args:
        spec_id, target: the specification and its version.
        dry_run: whether nothing was changed.
        cases: each case that was looked at, by id.
    """

    spec_id: str
    target: str
    dry_run: bool
    cases: tuple[CaseMigration, ...]

    @property
    def moved(self) -> tuple[CaseMigration, ...]:
        """The cases that have a place in the new version."""
        return tuple(each for each in self.cases if each.moves)

    @property
    def refused(self) -> tuple[CaseMigration, ...]:
        """The cases that stay as they are."""
        return tuple(each for each in self.cases if not each.moves)

    def __str__(self) -> str:
        """Say how many moved, and what stands in the others' way, the most frequent first."""
        verb = "would move" if self.dry_run else "moved"
        lines = [f"{len(self.moved)} of {len(self.cases)} cases of {self.spec_id} {verb} to version {self.target}"]
        counts: dict[str, int] = {}
        for problem in (str(problem) for each in self.refused for problem in each.problems):
            counts[problem] = counts.get(problem, 0) + 1
        lines += [f"{count} x {text}" for text, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
        return "\n".join(lines)


def migrate_cases(
    cache: CaseCache,
    headers: Iterable[CaseHeader],
    target: Compiled,
    renaming: Renaming,
    *,
    dry_run: bool = False,
    progress: Callable[[CaseMigration], None] | None = None,
) -> Iterator[CaseMigration]:
    """Move the cases that are open and have another version, and tell of each, in their order."""

    def one(header: CaseHeader) -> CaseMigration:
        return migrate_case(cache, header, target, renaming, dry_run=dry_run)

    version = target.program.specification.version
    waiting = (each for each in headers if each.spec_version != version and each.state not in _OVER)
    # Those that wait for the disk together share its syncs.
    threads = 64 if cache.store.durability is Durability.FULL and not dry_run else 1
    with ThreadPoolExecutor(threads, thread_name_prefix="knhk-migrate") as pool:
        for fate in pool.map(one, waiting) if threads > 1 else map(one, waiting):
            if progress is not None:
                progress(fate)
            yield fate


def migrate_case(
    cache: CaseCache, header: CaseHeader, target: Compiled, renaming: Renaming, *, dry_run: bool = False
) -> CaseMigration:
    """Move one case, all or nothing, and tell what became of it; what the store refuses is told as a problem too."""
    version = target.program.specification.version
    problems: tuple[Problem, ...] = ()
    for _ in range(_TRIES):
        try:
            with cache.hold(header.case_id) as resident:
                source = resident.header.spec_version
                moved = _relocate(cache, resident, target, renaming, dry_run=dry_run)
        except ConcurrentUpdate as error:
            # Somebody else moved the case first: it may have a place from where it is now.
            problems = (Problem("", str(error)),)
        except KnhkError as error:
            problems = (Problem("", str(error)),)
            break
        else:
            return CaseMigration(
                case_id=header.case_id,
                source=source,
                target=version,
                problems=moved.problems,
                withdrawn=moved.withdrawn,
            )
    return CaseMigration(case_id=header.case_id, source=header.spec_version, target=version, problems=problems)


def _relocate(cache: CaseCache, resident: Resident, target: Compiled, renaming: Renaming, *, dry_run: bool) -> Moved:
    """
    Move a held case to another version of its specification; with problems it stays as it is, as in a dry run.

    Raises:
        KnhkError: what the store's `commit` raises.
    """
    # What waits for the commit of what follows belongs to the version that it was done in.
    cache.commit(resident)
    header = resident.header
    source = cache.compiled(header.spec_id, header.spec_version)
    version = target.program.specification.version
    moved = move(resident.case.state.dump(), source.program, target.program, renaming)
    if resident.in_flight:
        busy = Problem("", "a handler is at work in it now; try again when it has ended")
        moved = attrs.evolve(moved, problems=(*moved.problems, busy))
    if moved.problems:
        return moved
    case = cache.fresh(target)
    try:
        case.migrate(moved, source=header.spec_version, target=version, at=cache.clock.now())
    except (DataError, CommandError) as error:
        return attrs.evolve(moved, problems=(Problem("", str(error)),))
    if not dry_run:
        # With a snapshot, as the records before mean nothing in the new version.
        fresh = Resident(
            case,
            attrs.evolve(header, spec_version=version),
            target.express,
            since_snapshot=SNAPSHOT_EVERY,
            shared=resident.shared,
            worklets=resident.worklets,
        )
        cache.replace(resident, fresh)
    return moved


def refuse(fate: CaseMigration) -> None:
    """Raise MigrationRefused for a case that stays where it is."""
    if fate.problems:
        raise MigrationRefused(fate.case_id, fate.target, fate.problems)
