// Package restore copies a snapshot, or a part of it, to a destination tree (Run) or a tar stream (Dump).
//
// # How a restore goes
//
// One goroutine scans the snapshot depth first. It makes directories (mode 0700 until they are finished), looks at what
// is there already, applies the overwrite policy, deletes, and puts everything else into windows of up to 16,000 names.
// A window is sorted by where the content lies in the volumes (store.Place) and worked off in parallel, all names whose
// content shares a frame by one worker, so that each frame is read and decoded once per window. While one window is worked off
// the scan fills the next. That bounds the memory without a spill file: what is open is at most two windows.
//
// A directory is finished, attributes last, when the last thing queued below it is; then its descriptor is closed. So open
// are only the directories on the way down and those of the present windows, and of their descriptors no more than a fixed number:
// others are opened again from the nearest open ancestor, by names, and must then have the device and inode they had
// before (ErrMoved).
//
// # Content that comes by once
//
// A Reader that is Passing, as a pipe is, gives its chunks once and in its own order. Then the scan first goes through all of the snapshot: whatever
// needs no such chunk is restored as ever, of existing files the equal stretches are taken over, and the places that remain go into a table sorted
// by chunk: 32 bytes each, beyond 16 MiB in scratch (while it is sorted twice that), of which every 128th key is in memory. Files, further names of
// linked files and directories that wait take 32, 12 and 32 bytes each, beyond 2 MiB in scratch. Then a chunk that comes is written to all
// its places. A file of one chunk is written at once, others under their temporary names, of which 128 are open at a time; one that is opened again must
// be the same inode with one name (ErrMoved). With its last place filled a file gets its attributes and its name. Further names, and
// the attributes of directories above all this, follow in the end. What did not come is ErrNotCome, and nothing unfinished is left. Where the
// destination refuses hard links, further names are copied from the first.
//
// # Safe in hostile directories
//
// Only the destination directory itself is opened by a path, which the caller chose. Everything else is done relative to
// descriptors, either one name at a time with O_NOFOLLOW or by openat2 with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and
// RESOLVE_NO_MAGICLINKS; where the kernel has no openat2, name by name. The original path of an in-place restore is
// walked from "/" in the same way; a symlink on it is followed only if it and its directory belong to root or the
// caller and nobody else can write there (ErrUnsafeLink).
//
// Nothing that exists is opened for writing. A file is written under a temporary name (".snapfs-PID-START-RANDOM") in its directory
// and renamed, so it either has its old or its new content, and a symlink or hard link planted under its name is
// replaced, not followed. What is taken over from an old file that was written to meanwhile is read back. A file with several names is never
// changed in place, its attributes neither, unless nothing has to
// be changed. What is made without a descriptor (devices, fifos, symlinks) is pinned by O_PATH, and checked to be
// still the thing that was made, before its attributes are set. Only Patch writes into existing files: regular, one link,
// opened with O_NOFOLLOW, checked again after opening; interrupted, a patched file is partly new.
//
// # What is in the way
//
// Directories are merged. Under OverwriteAlways anything but a directory is replaced by what the snapshot holds, and an empty directory
// is; a directory that is not empty is removed only with Delete, by the rules of Delete, else it is an error (ErrNotEmpty).
// Nothing is ever written to the store that is read: a destination in it is refused, its directory is passed over.
// Immutable and append-only flags are taken away by root under OverwriteAlways where they are in the way, and set again from
// the snapshot at the end.
//
// Delete spares what the snapshot's excludes, ignore files, size limit and cache tags kept out of it, paths that were
// unreadable, the store, Options.Protect, every mount point, and directories on another file system than the restored path. Where several paths
// were saved, the directories that only lead to them are not cleaned. While what comes through a pipe may still show that another snapshot is wanted
// (Passing.Certain) nothing is deleted: the directories are gone through once more when everything has come, and one that is not empty stays where
// it is in the way (ErrDoubt).
//
// # Attributes
//
// In this order: content, owner, xattrs that must go, user xattrs, mode (chown clears set-id bits), ACLs and capabilities (chown
// clears those too), mtime, inode flags; immutable and append-only after the rename, on files with several names after
// the whole run. A directory's attributes follow everything below it. Owners are numbers; names are not mapped. Access times are
// left to the kernel, birth times cannot be set. What may not be set, or what the file system does not have or has no room for in one
// file, is counted, not an error; but set-id bits are never given to a file whose owner or group could not be set.
//
// # What survives
//
// No file is synced by itself: one syncfs per file system at the end brings everything to the disk before Run returns. Until then a
// power failure may leave files with their new name and no content. After kill -9 or a power failure the restore is
// run again: content is compared, equal files are kept, temporary files of processes that are gone are removed. A
// destination directory made by a run that did not end is recognised by a file ".snapfs-...-made" in it, so that the next run sets its
// attributes as well; so is, under OverwriteNewer and OverwriteNever, every directory that was made.
//
// # Dump
//
// The tar is PAX (POSIX.1-2001) with GNU's sparse format 1.0, xattrs as SCHILY.xattr.NAME, ACLs as SCHILY.acl.access and
// SCHILY.acl.default with numeric IDs, and "hdrcharset=BINARY" where a name is not UTF-8. GNU tar (--xattrs --xattrs-include='*' --acls)
// and bsdtar extract it. Sockets are left out and counted; inode flags and birth times have no place in it. Content is read ahead in
// parallel, up to 64 MiB, and written in order, in one pass.
package restore
