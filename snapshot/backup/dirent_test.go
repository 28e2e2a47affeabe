package backup

import (
	"testing"
)

// TestDirentWithoutInode: FUSE servers may give no inode numbers in their lists.
func TestDirentWithoutInode(t *testing.T) {
	buf := make([]byte, 24)
	buf[16] = 24
	copy(buf[19:], "name")
	var got []string
	eachDirent(buf, func(name []byte) { got = append(got, string(name)) })
	if len(got) != 1 || got[0] != "name" {
		t.Errorf("%q", got)
	}
}
