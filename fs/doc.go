// Package fs answers the kernel's file-system requests out of snapshots: requests in, snapshot reads out, errors
// turned into errno. It holds no policy and knows no format.
//
// # Layout
//
//	MOUNT/<dataset>/<snapshot name>/...
//	MOUNT/<dataset>/latest -> the newest snapshot's name
//
// # Node ids
//
// A node id is the inode number, and everything is found from it alone, so there is no table to fill, to keep or to
// lose, and a number means the same file after a restart or on another machine.
//
//	bits 63..60  clear (overlays put theirs there)
//	bits 59..32  slot of the snapshot; 0: the server's own directories
//	bits 31..0   slot > 0: position in the snapshot's tree (snapshot.Found)
//	             slot = 0: 1 the root; 2^30 | dataset number; 2^31 | target's slot for a "latest" link
//
// # What the kernel keeps
//
// Snapshots never change, so every name, attribute, absent name, symlink target, page and directory listing may stay
// in the kernel's caches for as long as it likes: all timeouts are decades. Opening is answered "not implemented",
// for files as for directories, which the kernel remembers and takes as "cache everything": no request for open, flush
// or close is sent again. Only the root and the dataset directories change; Refresh tells the kernel what did.
//
// # Reading
//
// A reply to a read is the stored chunks themselves, gathered by the write to the kernel. Chunks from 128 KiB on are
// read into buffers that are used again, held while a reply needs them (chunks.go); smaller ones come out of the
// store's cache of frames. Who reads a file in sequence has the next 4 MiB read ahead of him. Who reads small files in
// sequence finds the next ones in the kernel's cache, written there without being asked for (push.go).
//
// Measured, two cores, 72,725 entries of /usr/lib in a sealed, compressed store:
//
//	request without the kernel: lookup 0.46 us, attributes 0.42 us, listing 0.04 us an entry, no allocation
//	find -printf %s, cold: two requests a directory, none an entry
//	tar of 33,000 small files: 5.9 s of processor time, client included; with pushing 4.0 s, with less than half the
//	  requests
//	146 MB file, cold: 0.20 s in the server, nearly all of it decompression, and 0.11 s in the kernel on both sides
//	buffers used again: 126 MB of peak memory instead of 258 MB after three readings of that file
//
// # Permissions
//
// The kernel checks them (default_permissions). Without AllowOther only who mounted may enter, whose store it is. With
// it the kernel enforces ACLs too if it may ask for extended attributes; if not, files with ACLs are shown with the
// mode that allows nobody more than the ACL does. A snapshot's directory lets in nobody whom a directory above the
// source kept out (mode.go).
//
// # Ending
//
// Whoever unmounts knows from a socket in the abstract namespace which process serves, and waits for its end
// (beacon.go). The server never touches its own mount: it asks /proc/self/mountinfo.
//
// # References
//
// The kernel's references to nodes are counted per snapshot and nowhere else. A snapshot that has some is pinned in the
// store and stays readable although it was forgotten meanwhile.
package fs
