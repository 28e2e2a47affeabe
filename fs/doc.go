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
// # References
//
// The kernel's references to nodes are counted per snapshot and nowhere else. A snapshot that has some is pinned in the
// store and stays readable although it was forgotten meanwhile.
package fs
