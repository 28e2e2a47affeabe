// Package backup turns a source tree or a stream into a snapshot: scan, compare with the parent, read, commit.
//
// # The walk
//
// Walkers take directories as tasks, depth first, each on its own stack; an idle one takes the oldest task of another.
// Files are named to the kernel by a directory's descriptor and one name, never by a path, so that no tree is too
// deep and no symlink followed. A directory's descriptor may be closed while nobody uses it and is opened again from
// the nearest open directory above, with its inode checked; some 200 stay open at most, and no more than an eighth of what the process may have.
//
// A directory's names are read, sorted, and gone through in windows beside the same directory of the parent snapshot.
// A name is unchanged if type, size, mtime, ctime, inode, mode and owner are as they were and its entry is not marked
// fresh: then the parent's entry is taken over after that one statx, attributes that need further calls included. The
// window waits for its subdirectories and files and goes to the directory's writer. While everything is as in the
// parent there is no writer: at the end the parent's node is used as it is; at the first difference the windows
// before it are replayed from the parent. So a directory of a million names is a stream, and memory is the names of the
// directories on the way (10 bytes more than the names themselves) and their windows, which shrink with depth.
//
// Fresh means: when it was read, a time of the file lay less than a clock tick back (2 s on file systems with coarse
// times, and where both times are whole seconds), so that another change could leave the times as they are. An mtime
// that lies far ahead does not count: someone set it, and a change moves it.
//
// # Content
//
// Files below 16 MiB go to the workers in batches of neighbours; each worker has a Writer of its own, so that what
// lies together in the tree lies together in the store. A larger file is read by one reader into recycled blocks and cut
// there, and its chunks are spread over all workers. Files up to the cutter's minimum are one blob, read by one call.
// A batch's files are opened and fetched by the kernel before it is queued, so that the batches before it hide the disk's
// latency (a third of the time of a cold first backup). What was not in the page cache before (cachestat tells) does not stay there:
// large files are read past it where the file system can do that (stretch by stretch, if some of their pages are there), others are dropped
// behind the reader. Of a large file the next block is read while one is cut.
// Holes are found by SEEK_DATA and SEEK_HOLE if a file has fewer blocks than its size asks for, and never read.
//
// A file that changes while it is read (other times, size or inode afterwards) is read again up to three times, as long
// as that is less than 4 GiB; then it is saved as it was read, marked fresh, and counted as unstable. One that vanishes
// is no error; one that becomes something else is looked at again; a directory that was moved away meanwhile
// counts as vanished, with what was not yet read of it, and if there is another in its place, that is scanned. A name that is there
// each time, and cannot be opened, is an error. A PATH is opened once: a symlink that leads elsewhere by then changes nothing.
//
// A change through a shared mapping moves the times only if the page was clean. So what is dirty of a file begins to be written before
// it is read, and a file that stays dirty is fresh. On tmpfs such changes move no time at all: only --reread sees them.
//
// Of a file with several names the content is read once, its record goes to the link tree; names met meanwhile wait for
// it, so that none is saved without a record. A file made since the run began can have the inode of one that is gone: its birth tells
// them apart, and its names are saved each by itself. With --ignore-inode or --ignore-ctime an entry taken over keeps the
// parent's inode and ctime, so that it is the same in the store, and changes that only they would show are not seen.
//
// Inode flags are read by FS_IOC_GETFLAGS, not from statx, which knows only some of them; the bits that chattr can set are
// kept. Flags of other types than files and directories are not read: the kernel has no call that does not open them.
//
// # What is left out
//
// Patterns hold relative to each PATH, those of ignore files relative to where they lie; what the options say comes
// before ignore files. A name excluded is not entered, unless a PATH lies below. The store's directory, pseudo file
// systems and mounts of snapfs are saved as empty directories unless they are named; a mount of snapfs is not even
// asked for its attributes, since its server may be waiting for us.
//
// # Unusual activity
//
// A run that has a parent counts, beside what is new, changed, unchanged and removed, how the first chunk of each file that was read looks:
// rewritten (it differs from the parent's), novel (a new file, and the store has no such chunk), dense (the store has no such chunk,
// and its bytes are spread as evenly as those of encrypted or compressed data). Of more than 512 files one in 16 is judged and stands for
// the others. A first backup judges nothing. The figures are kept in the summary of the commit, those of an interrupted run in its
// partial. Three shares of the files that the parent had are compared with those of the dataset's last 30 backups:
//
//	encrypted   dense files, at most as many as were rewritten or are gone: new photographs harm nobody
//	replaced    rewritten files, and novel ones in the place of gone ones
//	lost        files that are gone with nothing new in their place
//
// Gone are removed names without those whose content came up under another name: moving a directory, rotating logs, switching back to
// a branch are no loss. Nor is a name that could not be read, or that other excludes leave out this time. Content that begins as before does not
// count as rewritten: logs and databases grow, owners and modes change.
//
// A share is unusual above its floor (25 %, 75 %, 50 %) and above the lesser of four times what is usual and a third of all files
// more than that. Usual is the second greatest share of the history: a weekly upgrade is usual from the second time on, and somebody who goes to
// work step by step does not make his own measure with the first step. After a longer gap than the median one the four become more, in
// proportion; the third does not.
// With fewer than five backups to compare with only the extreme counts (60 %, 95 %, 90 %), with none only the first share. In datasets under 40
// files, and below 20 files hit, nothing does. So what is not noticed: small datasets, less than a quarter of the files at once, encryption that leaves
// the beginnings of files alone or gives encoded text and keeps within the other shares.
//
// Why the floors stand where they do: an upgrade of a distribution's packages rewrites up to half of /usr, of which a tenth is dense (compressed
// manuals); a first npm install or a new branch replaces up to two thirds of a working directory; encryption of a home hits what is not
// compressed already, half of it or more, and leaves nothing where it was.
//
// The snapshot gets the tag "suspicious" and is made all the same. Backups with that tag are no examples for later ones; when somebody removes it,
// they are.
//
// # Parents and partials
//
// The parent is the dataset's last snapshot that is whole and can be read. A page of it that cannot be read makes what
// it described new. Every 10 minutes, and when it is interrupted after some work, a run commits a partial: everything
// stands still, what is complete so far is written as a tree of its own, and the run goes on. The next run looks up there
// what the parent does not know. Of a directory with several windows a partial holds only the present one, and of
// a large file under way nothing; their content is read again and found in the store. new, changed, unchanged and
// removed always compare with the parent.
//
// While the store knows of damaged blobs, a file or set of attributes that needs one counts as changed: it is read and put again,
// and since its blobs get the same IDs, the snapshots before are mended as well. The other chunks of such a file are
// read from the store first, since damage rarely comes alone. A damaged page makes its directory new, as above. A run that has met
// damage reads what the store says it has before it relies on that: of what stands below a lost page, nobody has read anything yet.
//
// # Mending
//
// A Mender reads damaged chunks from their files and encodes everything else by a walk like that of a backup, compared with the damaged
// snapshot itself and its parent, which stores nothing but what is lost. A page of a directory comes back if all in it is as it was: names,
// attributes, inodes and ctimes, contents; and since a directory's entry holds the ID of its page, all below it too. What was true
// at the time of the backup only:
//
//   - Whether an entry was fresh. The time of reading is not recorded; the beginning of the backup is tried, and its end.
//   - What --ignore-inode and --ignore-ctime took over from a parent whose pages are lost as well.
//   - In a manifest, the attributes of the directories above the source, and the number of unstable files. Excludes are taken from the parent;
//     all else in it stands in the commit.
//
// Streams are over, and of --files-from nobody keeps the list: their pages do not come back.
//
// Names that are listed to be saved, PATHs or lines of --files-from, and are not there are errors; a snapshot of none of
// them is not made.
package backup
