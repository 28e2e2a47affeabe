// Package archive writes sets of volumes for another medium, and knows which snapshot is in which set.
//
// A set is a stream: which snapshots it holds, all their metadata, then their chunks; it can be written and read in one pass,
// in bounded memory, without seeking. The stream is cut into volumes, which are volumes as package volume has them (kind 4), so each can be
// copied, checked and repaired by itself. This comment specifies what is in them beyond that.
//
// # Label
//
// The fields 10 to 21 of a label say which set a volume is of, what unlocks it, and which volume it is. A set has a bundle of keys of its
// own (package seal, "Archive sets"): the key of each volume is made from that bundle and the volume's id. Its content key is the store's:
// IDs of blobs are those of the store, and whoever continues the store cuts and names content alike.
//
// # Order
//
//	volume 1   label  head  metadata ...  metadata complete  chunks ...
//	volume n   label  head  [table of volume n-1]  goes on where that ended ...
//	volume N   label  head  ... chunks  end
//
// and in each volume parity, contents table, repeated label and trailer as ever. Metadata are blobs of the kinds 2, 3 and 4, in no order
// among themselves; every set has all its snapshots need. Frames hold metadata or chunks, never both. A blob may come twice: either
// is good. Incremental and differential sets hold the chunks that no set they build on carries. Chunks come by the age of the volume of
// the store and as they lie in it, which is about the order of the trees. Frames of the store of which everything is wanted are sealed
// again as they were packed, others are packed anew: a set never holds a blob that its snapshots do not reach.
//
// # Records
//
// Frames of kind 6 (volume.FrameSet) hold records: sealed, one byte of type and tagged fields (store.Fields). Times are nanoseconds since
// 1970, zigzag. ! marks critical fields. Unknown types are stepped over.
//
//	1 head       1! set id  2 name  3 pool  4! level: 1 full, 2 incremental, 3 differential  5 parent  6! number of this volume, from 1
//	             7 created  8! id of the store  9 average length of chunks  10 snapshots: list of records 1! manifest  2 dataset  3 name
//	             4 start  5 slot  6 summary  7 tags  8 committed
//	             11 what it builds on, parent first: list of records 1! set id  2 name  3 level  4 volumes  5 location  6 created
//	             12 keep until  13 metadata blobs  14 their bytes  15 chunks  16 their bytes, as planned  17 program
//	             18 parity volumes for each group
//	2 metadata   1 blobs  2 bytes
//	  complete
//	3 table      1! volume id  2! number  3! bytes that are whole frames  4 payload of a contents frame; one record for each part,
//	             one without payload if the run that had the table has ended: such a volume is read frame by frame
//	4 end        1! set id  2 volumes: list of records 1! id  2! number  3 length (absent: the one it stands in)  3 metadata blobs
//	             4 chunks  5 bytes of both  6 lost: blobs the store could not give  7 finished; if it comes twice, the last one counts
//
// # The end of a volume
//
// Before a frame is written it is certain, where that can be known, that the frame and the end of the volume fit: below the size that was
// asked for, on a device, in space that was allocated ahead in a file. Where a medium ends unannounced the volume has no trailer. Frames
// that are not known to be on the medium come again in the next volume, which has the table of the torn one. A frame is never cut.
//
// Behind a trailer there may be zeros, up to a multiple of the block size; on a device, whatever it held before. In a pipe the next
// label follows.
//
// # Parity volumes
//
// Volumes 1 to 128 of a set are group 0, the next 128 group 1, and so on. Byte p of parity volume j of M of a group is the sum over n of
// (byte p of the group's volume n) / ((128+j) xor n) over GF(2^8), polynomial 0x11d (volume.SetCode), where volumes that are not there, and bytes
// beyond the end of one, are zeros. The bytes of a volume are all of it, trailer included; of one without a trailer those that are whole
// frames. Parity volumes come after the others, group by group, j ascending, and go on with the numbers. Field 21 of their label is a record:
//
//	1! layout: 1  2! 128  3! M  4! j + 1  5! group + 1  6! rows: number (uvarint), id (16 bytes), length (uvarint), BLAKE3-256 of the
//	bytes, without a key (32 bytes)
//
// They hold frames of kind 7 (volume.FrameSetParity), in clear: 8 bytes that say from which position on, and 1 MiB of parity, the last one
// less; ascending and without gaps up to the length of the longest volume. They have neither head nor end. With volumes of limited size, and
// where a medium says how much fits on it, the others are so much shorter that parity volumes fit.
//
// What has been added up lies in DIR/SET-ID.sum-GROUP-NUMBER.VOLUME (the first 8 digits of the ID), over all volumes up to that one; what is being written, and what will be
// written over next, ends in .next. Where volumes go away with their medium, or DIR is on another disk, they are added up while they are
// written: the sums with the next volume are written beside those without it, which go when the catalogue has the volume. Where volumes stay in a
// directory on the same disk, or there are 3 parity volumes or more, complete volumes are read again, all at once, before a medium is
// changed and at the end: so each byte of the sums is written once, and as long as nobody else needs the memory the volumes are still in it. What is
// read again must have the digest it was written with. Sums that are lost are made again if the volumes are where they were written.
//
// # The catalogue
//
// What a store knows of its sets are facts (store.ArchiveSet). A set is entered, as unfinished, before the first byte is written, and again
// with each complete volume and the list of the chunks in it. These lists are what levels are computed from; prune keeps their pages, and nothing they
// name, until the set expires.
//
//   - Killed while a volume is written: complete volumes are good, the others are not in the catalogue. Resume finds out anew what the set needs,
//     leaves out what the lists have, and begins with the number of the volume that was not completed. If not all metadata lies in
//     complete volumes, all of it is written again.
//   - Killed between a volume and its fact: the volume is written again under another id, over the file of the first.
//   - A snapshot that is gone when the set is resumed: an error. While a set is written its snapshots are pinned.
//   - A blob that the store cannot give: it is named, counted in the end, and left out; the lists do not have it, so the next set tries again.
//
// # Names
//
// In a directory volumes are NAME-0001.snapfs, NAME-0002.snapfs ..., NAME-parity-1.snapfs ..., with .partial behind that while they are written, and
// NAME.txt is a text for people, brought up to date where it lies when the set, or one it builds on, is marked.
//
// # Reading
//
// Open reads sets without a store: Bare is a source of snapshots and of content for package restore. Keys come from the labels, snapshots
// and parents from the heads, places of blobs from the contents tables, 32 bytes of memory each. Where a head is lost the next volume has it, or
// the manifests in the frames name the snapshots; where a contents table is lost all frames are opened; where a label is lost the key
// that opens a frame tells the set. A volume that does not read as it should is healed by its parity in passing: pages that differ go to a
// file without a name in scratch. Volumes that are missing are made anew there from parity volumes, if there are any; that reads all of the group once.
//
// Of what comes through a pipe the metadata of the set with the snapshot is kept in such a file, sealed as it came. Where the chunks begin, Open
// ends; Pass gives them to package restore as they come, which knows by then for each of them where it belongs. That a set did not come
// shows at the end: what came is restored by then, and the next run goes on. With a scratch directory that was asked for (KeepAll) everything that
// comes is copied there as well, as long as there is room, until it is certain that the order is right: if it is wrong, or metadata are damaged, the
// rest is copied too and all of it read from there. Without it wrong order is an error before anything is written.
//
// An ID or DATASET@NAME (snapshot.Target.Exact) is one snapshot, whatever else comes. What a name or a time means is known only at the end of the
// last pipe: a set behind may hold a newer one. Nothing at the start tells that it will not come. So for a name pipes are read on to their ends, tapes
// as well, and where the head of a set changes what the name means, Pass ends with NewerError: what was restored by then is the older one, and
// stays. The same if nobody can tell, because all heads of a set that was written later are damaged. With KeepAll everything is copied before
// anything is handed out, and read from there; if that does not fit, the copy is given out again and the pipe goes on behind it, while 192 MiB of
// scratch, but at most half, stay free for the rest. Likewise if the set has parity volumes, which may have to replace what does not come.
// Sets that are not needed may come behind those that are, or between them.
//
// Damage in a pipe is healed in passing. The last 96 MiB, but at most a quarter of the room in scratch, are kept in a ring there. What is
// whole goes on at once; behind damage everything is held until the parity that covers it has come, healed in the ring (volume.RepairPart)
// and goes on, or until the ring is full, and then as it came: that takes away the files whose frames it touched, and no others. What is
// healed takes as much room again at most, if bytes were lost or inserted. Parity volumes heal nothing in passing.
//
// A file may hold several volumes; a device may hold what was there before behind the last one. The same volume twice is told once and passed over. A
// volume of another store is refused; one of a set that is not needed is refused if it was named, and passed over in a directory. A snapshot is read
// from the newest set that holds it; if something of that is lacking, as of one that was never finished, from all others that hold it as well.
//
// # Checking and repair
//
// Check reads everything once, in any order: sums, numbers, labels; with a key it opens every frame, names every blob anew, and compares what the
// manifests and nodes of a set name with what it holds. What lay where damage is, the volume's contents table says; then the snapshots are walked for
// what needs it. Metadata are read again where they lie, those that came through a pipe from a copy in scratch. Repair needs no key: it heals by the parity in a volume, then makes what is missing or beyond
// that anew from parity volumes, and compares it with the digests in their labels.
//
// # Import
//
// Into a store with the origin's content key (made by the import, or the origin itself) blobs go under their IDs, those first asked for that are there.
// Else files are read and cut anew, directories and link trees encoded anew, what did not change between snapshots once; manifest and summary keep
// the origin's store and snapshot. A snapshot whose name another one of the dataset has gets another name, and with it another manifest and ID.
// Each snapshot is committed by itself; one with damaged parts is not taken over.
//
// With the origin's content key the catalogue is made again as well: a set that it does not have is entered as Create left it, if head, end and all volumes
// that the end names were read; what was found damaged beyond a volume's own parity, or made anew from parity volumes, leaves it out. Chunks are
// listed from the contents tables, those of a torn volume from its frames. State, location and verification are in no volume. Sets of a store and of
// one that went on from its sets are read together, since both name content alike. With other keys no list could name chunks of the store, and no snapshot
// has the ID it has in the set: nothing is entered.
//
// # Measured
//
// 3.8 GB of /usr/lib, two shared cores, cold: restored from the store in 22.9 and 26.5 s, from a set in a directory in 21.7 and 24.4 s, out of a pipe in
// 24.2 s; verified in 10.9 s with the key and 1.1 s without; imported into a new store in 24 s, with other keys in 38 s. Peak memory 210 MB restoring,
// 155 MB verifying, 360 MB importing. Of 1.35 GB out of /usr, 492 MiB in the set, a restore through a pipe takes 2.9 MB of scratch beside the ring, where it took
// 478 MB when all was kept; 6.5 to 8 s as before, peak memory 126 MB instead of 165.
//
// Writing, on the same machine, /usr/lib again, 1.4 GiB in the store: a full set from a cold cache into a directory on the same disk 2.9 s
// (530 MB/s; cp of the store's volumes 2.3 s), to a pipe that is thrown away 1.9 s (800 MB/s), an incremental one with nothing new 0.33 s
// and 5 MB of metadata. With 6 % parity it is 3.1 % larger than the store with its 3 %; label, tables and records take less than 0.1 %. With two parity volumes over volumes
// of 200 MB, 28 % more bytes, 5.0 to 5.9 s where plain volumes of that size took 3.4 s; 5.0 s if the medium is changed between any two. Peak memory 190 MB with the store's own; the planner
// keeps 16 MiB for each of three sorters, which spill, and some 50 bytes for each node; a volume's contents table (36 bytes a blob) and the list of
// its chunks spill as well, so that volumes need no limit. TestSchedule over 7 years: 2,555 sets, 96 left at the
// end, 31 snapshots online.
package archive
