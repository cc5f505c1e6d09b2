"""Events of the rooms in words: one line per transition.

Law: rooms say a word and fields, this table says the level and the sentence. A word that it doesn't know is still
written, with its fields.
"""

from __future__ import annotations

import logging

log = logging.getLogger("agent.state")

SENTENCES: dict[str, tuple[int, str]] = {
    "source_following": (logging.INFO, "source is being followed: answers are fresh"),
    "source_lost": (logging.WARNING, "source lost: the last good state goes on answering"),
    "cluster_changed": (
        logging.WARNING,
        "source speaks for another cluster: its full set is awaited",
    ),
    "older_list_refused": (logging.WARNING, "a list older than what is held was refused"),
    "older_list_accepted": (logging.WARNING, "older lists for so long mean a restored control plane: taken"),
    "quarantine_began": (
        logging.WARNING,
        "suspicious change is held, the previous state goes on answering: see `nodens quarantine show`",
    ),
    "quarantine_grew": (logging.WARNING, "much more is held by now: its clock begins anew, under another id"),
    "quarantine_accepted": (logging.WARNING, "what was held is applied: a person accepted it"),
    "quarantine_rejected": (
        logging.WARNING,
        "what was held is dropped: a person rejected it, the previous state stays",
    ),
    "quarantine_expired": (logging.WARNING, "what was held is applied: nobody decided within guard.hold_for"),
    "quarantine_mended": (logging.INFO, "the source took back what was held, nothing is held any more"),
    "quarantine_dropped": (logging.WARNING, "what was held belongs to a state that is being replaced as a whole"),
    "quarantine_carried": (logging.WARNING, "change was held when the last life ended: its clock goes on"),
    "quarantine_not_written": (logging.ERROR, "what is held can't be written down; it is held all the same"),
    "decision_void": (
        logging.WARNING,
        "a decision names a quarantine that is over, or is another by now: not followed",
    ),
    "object_skipped": (logging.WARNING, "an object was skipped, the others apply"),
    "compile_failed": (logging.ERROR, "records of a Service could not be made, its last ones stay"),
    "posture": (logging.INFO, "state of the answers changed"),
    "restored": (logging.INFO, "snapshot restored from disk"),
    "restore_refused": (logging.ERROR, "a file of the state directory can't be used, an older one is tried"),
    "nothing_restored": (logging.WARNING, "nothing to restore: SERVFAIL until the source has been read once"),
    "order_refused": (logging.ERROR, "a control document can't be believed; the last good order stays"),
    "override_set": (logging.WARNING, "a name is answered by hand from now on"),
    "override_unset": (logging.WARNING, "a name is no longer answered by hand: taken back"),
    "override_ended": (logging.WARNING, "a name is no longer answered by hand: its time is over"),
    "pinned": (logging.WARNING, "an older generation is served, whatever the source says"),
    "pin_refused": (logging.ERROR, "the pinned generation can't be served; what was served goes on"),
    "unpinned": (logging.WARNING, "the newest state is served again"),
    "persist_failed": (logging.ERROR, "the snapshot can't be written; answering goes on"),
    "persist_recovered": (logging.INFO, "the snapshot is written again"),
}


def transition(event: str, /, **fields: object) -> None:
    """Write one transition.

    Args:
        event: a word, such as `source_lost`.
        fields: what a person wants to know with it.
    """
    level, sentence = SENTENCES.get(event, (logging.INFO, event.replace("_", " ")))
    log.log(level, sentence, extra={f"{key}_" if key in _TAKEN else key: value for key, value in fields.items()})


_TAKEN = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime"))
"""Names that a log record has itself; a field of such a name gets an underscore (`name` → `name_`)."""
