package fs

// Parts of node ids; doc.go has the picture. Shown to users as inode numbers, so they never change.
const (
	rootID     uint64 = 1
	datasetBit uint64 = 1 << 30
	latestBit  uint64 = 1 << 31

	maxSlot = 1<<28 - 1
)

// nodeID is the node id of a position in a snapshot.
func nodeID(slot, position uint32) uint64 { return uint64(slot)<<32 | uint64(position) }

// splitID is the inverse of nodeID; slot 0 means one of the server's own nodes.
func splitID(id uint64) (slot, position uint32) { return uint32(id >> 32), uint32(id) }

func datasetID(number uint32) uint64 { return datasetBit | uint64(number) }

func latestID(slot uint32) uint64 { return latestBit | uint64(slot) }

// ownKind says which of the server's own nodes an id of slot 0 is.
type ownKind uint8

const (
	ownNone ownKind = iota
	ownRoot
	ownDataset
	ownLatest
)

// splitOwn takes an id of slot 0 apart: its kind, and the number of the dataset or the slot of the link's target.
func splitOwn(id uint64) (ownKind, uint32) {
	switch {
	case id == rootID:
		return ownRoot, 0
	case id&latestBit != 0:
		return ownLatest, uint32(id &^ latestBit)
	case id&datasetBit != 0:
		return ownDataset, uint32(id &^ datasetBit)
	}
	return ownNone, 0
}
