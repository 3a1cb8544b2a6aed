"""Errors of ledger/, split by whose fault it is and what the caller can do.

LedgerError
+- BadEntry           bytes that are not an entry: whoever sent them broke the protocol
|  +- UnknownFormat      an entry of a kind that only newer versions write: skip it
+- BadRecord          an entry whose value is not the record its key promises: skip it
+- OverQuota          our own write does not fit the ledger's limits; the text says which
+- NotAnAdmin         our node may not write what the whole swarm follows
+- CopiedIdentity     another living node writes with our key: stop, one home was copied
+- StoreError         the ledger's file
   +- StoreFull          no room on the disk: nothing is damaged, make room and start again
   +- StoreUnusable      it cannot be opened or written; the text says why
   +- StoreTooNew        a newer version of the program wrote it
"""

from __future__ import annotations


class LedgerError(Exception):
    """Root of what ledger/ raises."""


class BadEntry(LedgerError):
    """Bytes that are not an entry."""


class UnknownFormat(BadEntry):
    """An entry in a format this version does not know."""


class BadRecord(LedgerError):
    """A value that is not the record its key promises."""


class OverQuota(LedgerError):
    """What we want to write does not fit."""


class NotAnAdmin(LedgerError):
    """A swarm-wide key is for admins to write."""


class CopiedIdentity(LedgerError):
    """Two living nodes write with one key."""


class StoreError(LedgerError):
    """The file that keeps the ledger cannot be used."""


class StoreFull(StoreError):
    """No room on the disk."""


class StoreUnusable(StoreError):
    """The file cannot be opened, read or written."""


class StoreTooNew(StoreError):
    """A newer version of the program wrote the file."""
