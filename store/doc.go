// Package store keeps blobs and facts: sealed into volumes, found through an index that can be thrown away, held by
// one process and shared with others through a socket.
//
// This comment is the specification of a store on disk. The volumes themselves are specified in package volume, keys
// in package seal, what blobs of nodes and manifests hold in package snapshot.
//
// # The directory
//
//	STORE/snapfs.json       parameters and features, with a MAC
//	STORE/keys/             key slots and sealed bundles of keys (package seal)
//	STORE/volumes/<id>      volumes; the name is the volume's id, 32 hexadecimal digits (package volume)
//	STORE/index/current     number of the current index, decimal
//	STORE/index/<number>/   Badger; a cache, may be deleted whenever no process holds the store
//	STORE/lock              flock, exclusive, by the process that holds the store; empty
//	STORE/snapfs.sock       socket of that process (package wire)
//
// Truth is in keys, snapfs.json and volumes: a copy of these three is a copy of the store. Files belong to the owner of
// STORE, whoever made them, with mode 0600, directories 0700. Nothing in volumes is ever overwritten.
//
// # snapfs.json
//
// One JSON object:
//
//	format          1; a greater number is refused
//	id              the store's identity, 16 random bytes in hexadecimal; every volume's label repeats it
//	created         RFC 3339
//	program         what made it
//	chunk_average   bytes, a power of two from 16 KiB to 4 MiB; least and greatest chunk are a quarter and four times that
//	compression     of new frames: none, s2, fastest, default, better
//	parity          of new volumes, in percent, 0 to 25, 0: none; 3 where it is missing, as in stores of the first release.
//	                Whoever does not know it writes volumes without parity, which are whole volumes as well
//	features_read   a reader that does not know every one of them must refuse the store
//	features_write  likewise a writer; a reader may go on
//	mac             keyed BLAKE3-256 in hexadecimal, under the bundle's MAC key, of the object without "mac", fields sorted
//	                by name, no white space: fields added later are covered as well
//
// Features, in both lists but for the last one:
//
//	blake3-ids          IDs of blobs are keyed BLAKE3-256
//	aes-256-gcm         frames are sealed with AES-256-GCM (package volume)
//	zstd, s2            frames may be compressed so
//	fastcdc-keyed-gear  large files are cut where package chunker says, with a gear table of the store's own
//	paged-nodes         directories and lists of chunks have pages (package snapshot)
//	facts               the history is a chain of facts, as below
//	append-only         in features_write only: facts that remove something count only if they are signed by an admin
//
// # Blobs
//
// A blob is content with an ID: the keyed BLAKE3-256 of its plaintext, under a key of its kind derived from the bundle.
// Kinds: 1 chunk of file data (or a whole small file), 2 node, 3 set of extended attributes, 4 manifest, 5 fact. Blobs of
// kind 1 go to data volumes, 2 to 4 to metadata volumes, facts to journal volumes. A blob of 128 KiB or more has a
// frame of its own, smaller ones share frames of about 256 KiB of plaintext in the order they were put. The blob table in the
// sealed payload of the frame is what says which blobs a frame holds; a reader checks the ID it asked for against it.
//
// The same blob may lie in several places: two writers at the same time, or a blob stored again because its first
// place was lost. Every place is as good as another.
//
// # Tagged fields
//
// Facts, their bodies and the records of the fold are records of tagged fields. A field is
//
//	key    uvarint: tag<<2 | critical<<1 | type
//	value  type 0: uvarint;  type 1: uvarint length, then so many bytes
//
// Tags grow strictly, uvarints (LEB128, little-endian groups of 7 bits) are minimal, numbers that are zero and bytes that are
// empty are left out: the same values have one encoding. Signed numbers are zigzag. A list in a field is a sequence of
// items, each a uvarint length and the bytes, unless said otherwise. A reader skips a tag it does not know, and refuses the
// record if the critical bit is set. Times are nanoseconds since 1970, signed; 0 means none.
//
// # Facts
//
// Facts stand in journal volumes, in frames of kind 2 whose payload is a pack (package volume) with one row a fact: kind 5, the
// fact's ID, its length. A fact is a record:
//
//	1!  kind          5   clock as read           ! critical
//	2!  chain (16 B)  6   hold time, never runs back
//	3!  number        7   body: a record whose tags depend on the kind
//	4   ID of the     8   signature over fields 1 to 7
//	    fact before   9   1: readers that do not know the kind must refuse the store
//
// The facts of one chain are numbered from 1 and each names the one before by its ID, so that the newest ID stands
// for the whole history. A store has one chain. Kinds and the tags of their bodies:
//
//	1 commit, 2 partial    1! manifest ID  2! slot  3! dataset number  4 name  5 start  6 tags  7 summary (package
//	                       snapshot)  8 volumes: rows of id (16 B), kind (1 B), length (uvarint)
//	3 forget, 4 unforget,  1! rows of manifest ID (32 B), slot (uvarint), dataset (uvarint), name (length and bytes)
//	5 purge
//	6 hold, 7 release      1! manifest ID  2 until  3 forever
//	8 tag                  1! manifest ID  2 tags added  3 tags removed
//	9 dataset              1! number  2! name  3 settings
//	10 volume sealed,      1! volumes as in commits  2 volumes that replace them
//	11 dropped, 18 replaced
//	13 checkpoint          1! records of the fold  2 root of the list of replaced facts  3 how many  4 IDs of the newest of
//	                       them (32 B each), which the list lacks
//	12 import, 14 archive set, 15 its state, 16 volume present at a target, 17 absent, 19 head of another chain
//	                       1! key  2 value; the last one of a kind and key counts
//	20 clock confirmed     none: its hold time is the clock, if that is later
//	21 refused attempt     1 what  2 job of the session  3 when  4 attempts since the fact before of this kind
//	22 acknowledged        1 job of the session  2 when  3 what is wrong with the chain: list of records 1 problem (word),
//	                       2 volume (16 B), 3 number and 4 ID of the fact it is about, 5 text
//
// The key of facts about archive sets is the set's id (16 B). The value of 14 is a record
//
//	1 name  2 pool  3! level: 1 full, 2 incremental, 3 differential  4! parent (16 B)  5 begun  6 finished (absent: it is not)
//	7 keep until (absent: for ever)  8 snapshots: list of records 1 manifest ID, 2 dataset, 3 name, 4 start
//	9! complete volumes: list of records 1! id, 2 number, 3 length, 4 1: parity over the others, 5 1: without trailer, 6! root of
//	the list of chunks in it, 7 where it was written, 8 digest
//	10 bytes of plaintext  11 chunks  12 blobs that could not be read  13 expired  14 what package archive needs to go on with it
//
// and that of 15: 1 state, 2 location, 3 when it was verified, 4 what was found. Lists of IDs are nodes: a record of 1! level and 2! up to
// 2048 IDs; on level 0 those of the list in ascending order, above those of the pages of the level below. Prune keeps the pages of the
// lists that sets have which have not expired, and nothing that is in them.
//
// A checkpoint stands for all facts before it: the state after it is what its records say. Each is a key and a value,
// both with their lengths before them, in the order of keys (n: 4 bytes, big-endian):
//
//	"s" slot n             a snapshot: 1! body of its commit with the tags it has now  2! 1: a partial  3 committed, by the clock
//	                       4! 1: forgotten  5! held until  6! 1: held for ever
//	"d" number n           a dataset: body of its newest fact
//	"r" kind (1 B), key    10: a volume that must exist, key its id, value its kind (1 B) and least length (uvarint);
//	                       11: one that may be missing, value its kind; 12, 14 to 17, 19: key and value of the newest fact;
//	                       21: key the number of the fact (8 B, big-endian), value its body; the newest 32; 22: key what is
//	                       wrong, the record without text, value a body with it alone
//	"mchain"               1! chain  2! number and 3! ID of the last fact before the checkpoint  4! hold time  5! next slot
//	                       6! next dataset number  7 clock as read for that fact  8 number of the checkpoint before
//	                       9 to 11: its fields 2, 4, 3
//
// The fold of the facts in the order of their numbers is the state. A commit makes a snapshot; its slot (1 to 2^28-1,
// never used twice) is the upper half of inode numbers. A partial is replaced by the next partial and dropped by the next commit
// of its dataset. Forgotten snapshots are hidden until they are purged or wanted again. Holds only extend, until
// released; a forget or purge of a snapshot that was held at the fact's hold time does not count. A commit lists every volume written to since the commit before, with the length it had when it was synced: a
// commit whose volumes are missing or shorter is damaged and said to be. Facts found twice count once; a fact whose
// number was used before (a store rolled back and used again) is folded in the order of number, then ID, and a slot
// taken twice goes to the one folded first.
//
// The list of replaced facts is a tree of pages, blobs of kind 2 in metadata volumes that nothing else names: 1! level (0: IDs
// of facts, above: of pages of the level below)  2! up to 2048 IDs (32 B each), in order. All pages but the last of
// each level are full, so a longer list shares them. It has every fact that ever was folded, so that the head of any time can be
// found in it. A checkpoint drops the journals that the one before it replaced, and never those since: so two checkpoints in
// different volumes, each with the facts behind it, say what the state is. Written are: pages, sync, checkpoint and the volumes it needs
// in one frame, sync, a fact that drops journals, sync, then the files are removed; cut short anywhere, nothing is lost,
// and the next compaction goes on. A chain with a gap is not compacted, as it would hide it, but by a repair that says what is missing and
// records it (kind 22). Nor is one that adds up to more than 48 MiB of records, about 150,000 snapshots: all its journals stay.
//
// A fold of all journals begins with the newest checkpoint. Facts with lower numbers that it has in its list are passed
// over; others, from a history that it did not know, are added, and of a checkpoint of such a history what is not known.
//
// Histories that come together may have given one number to different datasets. The line of the newest fact (it and all facts before
// it; where some are missing and no checkpoint after them stands for them, the newest facts below that nothing follows) keeps its
// numbers. A dataset that a fact or checkpoint off the line made is that of the line if that was made with the same number
// and name, or has one of its snapshots; else its number is 2^24 plus the remainder of the first 4 bytes of the BLAKE3-256 of number (4 B,
// big-endian) and name (uvarint length and bytes), all numbers big-endian, divided by 2^28-2^24, and the next free one if another
// has that. Its snapshots, and facts that rename it, go with it. So the number does not depend on what else is
// there, later facts use it as it is, and new datasets, which count below 2^24, never get it. A number that is used behind missing
// facts off the line, so that nobody can say what it meant, gives a dataset without a name, told apart by the ID of the first fact there.
// Of two datasets of one name the one with the greater number is shown with "-2" behind it. A fact that makes a dataset is
// followed by its first snapshot. A checkpoint of the whole is due at once, so that all this is looked at once.
//
// The hold time of a fact is the clock as read, if that is no more than a day later than the hold time of the fact
// before, and never earlier than that. If the clock is further ahead, it was perhaps set: the hold time then goes on by what has
// passed since the fact before was made, if that is a day at most, else not at all, until a fact of kind 20 confirms the
// clock. So a clock that is set ends holds at most a day early, and a store that rests for days ends them late.
//
// # Append-only stores
//
// The bundle of an append-only store holds a public key (package seal), and snapfs.json the feature "append-only" among
// those needed to write. There, facts of kinds 3, 5, 11, 13, 18, 20 and 22, and 7 unless the hold has run out, count only with
// the signature (Ed25519, RFC 8032) that belongs to that key; the same goes for a hold time more than a day after the
// one before. A fact without it keeps its place in the chain and says nothing, wherever it is found. Only sessions that
// opened an admin slot have the private key: they sign in their own process, whichever process holds the store, and nothing but what they
// have just asked for: the kind of fact, the snapshots, no time in the future; the volumes that a prune drops and what a checkpoint adds up
// to they cannot judge. What was
// refused for want of a signature is recorded, once a minute at most.
//
// A volume that a crash left unsealed is finished there by an admin's prune or upkeep: nothing is ever sealed under the key of a volume
// that another process began, so to finish it is to copy it and to drop it, and a copy alone would take the room twice. Until then it is
// read frame by frame, and its whole spans have their parity.
//
// This resists mistakes and misuse through snapfs: backups, restores, mounts and prunes run without the admin's secret can
// remove nothing. It does not resist whoever may write the store's files, by deleting them; that everything was there shows
// against a head of the chain that was kept elsewhere.
//
// # The immutable flag
//
// Where root holds the store and the file system has such a flag, sealed volumes that hold anything that a held snapshot needs are
// immutable, and with any hold all journals that are not being written: one is sealed for that when a hold is made, and each
// when it is closed. So held snapshots outlive that all files are removed by mistake: a rebuild shows them, and what else the facts
// name as missing. Before a volume with the flag is dropped, what replaces it is sealed and has the flag: copies of blobs, facts written
// anew, checkpoints. Holders that may not clear the flag leave such volumes to root.
//
// Which volumes hold something held a walk through the held snapshots finds: when a hold is made or released, in each prune and repair. It is
// recorded in the index (m "guarded": SHA-256 of what it was found for, then IDs of volumes), and upkeep sets the flags that are missing by
// that, whoever cleared them: by hand, by a kill, by copying the store. It walks again if the record does not fit: other holds, recorded volumes
// that are gone, a rebuild, a new volume while anything is damaged, as what is stored anew lies there. Nothing is done where nothing is held.
//
// # What is on stable storage when
//
//	Put        frame written to a volume only this process appends to: survives kill -9 of any process
//	Commit     1 sync every volume with unsynced frames, whoever wrote them  2 fact into the journal  3 sync the journal
//	           4 fold, index
//	Close      volumes sealed (contents table, label, trailer), a fact that names them, journal sealed, index closed
//
// A crash before 3 leaves no snapshot; its frames are found again by their blob tables. A crash after 3 loses nothing: the next holder
// reads what the index lacks. A volume left open is never appended to by another process; its torn tail is ignored. A failed
// write or sync closes the volume at its last synced offset, cuts the file there at once (the kernel may go on to show what it
// could not write) and fails every session with frames that were not synced or that was told of a blob among them. If it was a
// write that failed, the frames before it are synced first: a full disk takes nothing from clients that go on with the next holder.
// Of a journal nothing stays beyond that offset, and the cut is synced: the next fact has the number of the one that failed, which
// must not come back. If that cannot be made sure of, the holder adds no more facts, and the next one takes what it finds.
// A volume that is full is sealed while commits wait, so that none misses it, and named by a fact at once: sealed volumes without any
// fact are what is left of a store whose journals are gone.
//
// # The index
//
// Badger with keys of one prefix byte and sealed values (AES-256-GCM, 12 random bytes of nonce first, the key as
// additional data): b blob ID -> place (volume number, offset and length of the frame, start and length of the blob in it,
// ordinal: its number in the volume); v volume ID -> number, kind, watermark, counts; s, d, r, m -> records of the fold;
// p session ... -> what sessions pin;
// w volume ID -> when it was last verified; x volume ID, offset -> IDs of the blobs of a frame found damaged, x 16 zero bytes, blob ID -> one that no volume holds.
// A volume's watermark says that every frame below it is in the index; it is written in a transaction of its own after those
// entries are synced, and they are written after the volume is. Badger's log of a full memory table is synced as soon as the next one
// is begun: what the power takes from the index is always what was written last. On open the directory is compared with the records: unknown and
// longer volumes are read from the watermark on (the contents table if there is one, else frame by frame), entries of missing
// and shorter ones are void. An index that is missing, of another version or damaged is made anew from the volumes. An entry that
// is absent proves nothing: a blob that something names and the index lacks starts one re-reading of all tables. Journals are read
// first: a volume that a fact has dropped is never entered again, although a crash kept it from being removed. Short numbers of
// volumes are never given twice: that they are given is synced before the first place in the volume is written, as the power may take
// the volume's record and leave the places.
//
// Settings of Badger, measured with 5 million keys of 32 bytes: no compression, no block and index cache, no conflict
// detection, one version, two compactors, two memory tables of 32 MiB (less on file systems under 2 GiB), values in the
// tables, value log files of 16 MiB. Badger maps its files, and a full disk kills the process by SIGBUS; so nobody writes when
// less than a few memory tables are free, and below that the index of a run lives in memory.
//
// # Damage
//
// Whoever reads a frame that is not what was written reports it to the holder, which looks for itself and records it. Blobs of
// such frames, of volumes that are missing or cut short, and those that are in no volume, count as absent when somebody asks
// whether they must be stored, and are named to a backup when it begins: it reads the files again that need them and encodes
// the nodes again. What is stored anew has the same ID, so every snapshot that names it is whole again. The record goes when
// the frame is found whole or its volume is dropped; when the index is lost, whoever meets the damage next reports it again.
//
// # Verification
//
// The holder goes through the facts (volumes that must exist, with their lengths), the volumes (labels, trailer, contents table
// against the headers of the frames, the table against the index both ways), and the snapshots: every node once, with a bit for each,
// found by the ordinal in its place; whatever else a node names must lie in a volume. With the data, all frames are read, opened,
// and every blob hashed, two volumes at a time. What is expected of a volume says its table; without one, the index. Behind the
// length that facts and index know, an unsealed volume may hold what a crash left. A frame that is damaged is healed if
// all its blobs are stored elsewhere. An index that is wrong is mended on the spot. Which snapshots and paths need what is
// damaged is found by whoever asked (snapshot.FindAffected): the store knows no paths.
//
// Without a key VerifyFiles reads the volumes alone. What looks torn in a volume that was never sealed is no finding there, as
// only facts and index know what anything needs.
//
// # Repair
//
// A damaged volume is copied to volumes/.repair-<id> and healed there from its parity, synced, read back, and renamed over the
// damaged file if it holds every frame that was whole before and more besides; then the directory is synced and the volume
// read into the index again. Killed before the rename, a repair leaves only the copy, which the next holder removes; after
// it, the volume is healed. Bytes are exactly the former ones, so nothing is sealed again. Who has the old file open reads on
// there until damage is met, then opens the new one. What parity cannot bring back stays as it is and remains recorded. Journals
// that were healed are folded anew with the others, in the order of the facts. A volume that is missing and lies in the
// directory under another name gets its name again.
// Facts that are gone from the journals and that the index still knows (it was made before) are not left to the index alone: a
// checkpoint says what they came to, before the index is made anew by repair or rebuild. In an append-only store that takes an
// admin. What the index never knew stays missing in the chain, and visible.
//
// When nothing that a snapshot (a partial one, too, as far as it is in damaged frames) or the list of facts names is lost any more (the
// copies of a blob in damaged frames are stored elsewhere, by a backup, from source files, or always were), volumes that are still not
// whole are replaced as prune does it: what they hold moves to new volumes, then a fact drops them, missing ones too. Their frames are
// found by the contents table as far as that can be read, and by scanning from there on. Damaged frames that nothing names go with
// them. Before that, damaged bytes are never removed: a copy of the volume may bring back what is in them. A volume all of whose frames
// are whole, and that lacks only its label, table, trailer or parity, is replaced at once, whatever else is lost.
//
// # Prune and upkeep
//
// A prune seals the volumes that are open, then marks: one bit for each blob, by its ordinal in its volume, for all that is
// reached from snapshots, forgotten ones that are held, partials, snapshots that sessions pin, and the list of facts. What sessions
// were told of or wrote is marked for itself alone, as a node that is there proves nothing about what it names; so is what they are
// told of while the prune runs. A blob that two sessions stored at once lies twice: it is looked up where the index was led last, and
// whoever pins one copy pins that one, too; until the newer copy is synced the older is marked as well. Volumes that this process
// writes, or of which the index still lacks something, are left alone. If a node cannot be read, nothing is removed. What the index
// lacks is looked for in all volumes before it counts as missing. Then, in this order:
//
//	1 purge fact, once no snapshot is left that is to be kept and was not walked: it names the forgotten ones that are gone for good
//	2 volumes chosen; from now on they offer nothing but what is marked in them: all else counts as absent for backups
//	3 volumes with nothing marked: their entries leave the index, dropped fact, files removed
//	4 of others: what is marked is copied to new volumes, these are synced, the index leads there, replaced fact, files removed
//
// Killed between any two, blobs lie twice at worst, or a file lies there that a fact has dropped; the next prune removes both.
// Volumes that were begun after the mark are never chosen, those that lack something they should hold only by repair. One with a
// damaged frame of which anything is to be copied stays. A frame that
// is wanted whole and has 64 KiB of plaintext or more moves compressed as it is; what is left of others is packed anew in the
// order it had. Chosen are volumes with most waste for what must be copied, until the rest is allowed (with 0: down to one byte in 200),
// those that a crash left unsealed, and small ones: eight volumes of a kind whose sizes lie within a factor of eight become one, so
// that each byte moves once for each factor of eight. Upkeep does the last two without any mark: all that is in a volume moves, but for
// what the index finds elsewhere where it can be read. A holder that stays does so two seconds after a job that wrote; one that goes
// merges 32 MiB at most, for a second at most. Of a larger volume that a crash left it copies a part, seals that with its parity and
// notes how far it came (m "moved" volume ID), so that after a few commands all is finished.
//
// Blobs that no snapshot names stay for a week where a session ended that had written and not committed. If the index is lost
// that is not known, and every volume younger than that counts as such; but what snapshots purged in the same prune name is no
// unfinished work. A prune copies on a full disk what fits; facts that lead to more space may use what is otherwise kept free, and a
// megabyte set aside in STORE/index/spare.
//
// Measured on two cores shared with others: all of 1,000 snapshots of 100,000 files (140 MB of metadata, 340,000 blobs) marked in 5.2 s
// with 140 MiB of memory, half of it the index; nine in ten of them forgotten and everything rewritten: 22 s. See TestPruneThousands.
//
// # One store, many processes
//
// Whoever can take the flock on STORE/lock holds the store and serves it on STORE/snapfs.sock to processes of root and
// of the owner of STORE. A process that cannot take it connects. The handshake hands a client the bundle of keys (without
// admin keys): the uid is the credential. Clients read volumes themselves.
//
// The holder binds a new socket and renames it over the old one as soon as it has the lock, before it opens the index, and
// goes on to listen until the store is closed and unlocked: who connects meanwhile waits, and is let go if it has to look
// for another holder. A socket that refuses connections was left by a killed process. So only a lock without a
// socket that answers counts as unreachable, after 10 seconds.
//
// When the holder ends, each client takes the lock or finds the new holder, takes its pins and locks again, and
// repeats what was under way: every operation may be repeated, and a frame whose Put returned is in the kernel, whoever dies.
// What a session pins (snapshots, blobs that it was told of or wrote) stands in the index before it is told, so that a new holder
// keeps it, whether the session has come back or not, until its process is known to have ended (number and start of the process and
// run of the machine; an hour where that cannot be looked up).
// A client that was told of blobs or wrote some, and that the new holder does not know, as the index was lost, is refused: they may be gone.
// A holder that had clients to the last leaves its socket in place. A new holder that finds one grants locks that
// clients had at once and new ones only after half a second, by when the clients have come back: who has a lock does so at once, even if
// it has nothing to ask for. One that is kept from it (stopped, for instance) gets its lock if nobody has it then, and otherwise ends with
// an error that names who does: nobody writes to a dataset without its lock. Snapshots that both commit one after the other are complete,
// each.
package store
