package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// maxFile bounds slot and bundle files: larger ones are damaged. On disk; append only.
const maxFile = 256 << 10

// Why a file of keys is not what was written.
var (
	errNotKeyFile = errors.New("not a file of this kind")
	errSum        = errors.New("checksum does not match")
)

// encodeFile makes the three lines of a slot or bundle file: magic and version, JSON, SHA-256 of the lines before.
func encodeFile(magic string, version int, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", magic, err)
	}
	out := sumLines(magic, version, body)
	if len(out) > maxFile {
		return nil, fmt.Errorf("%s: %d bytes are too many", magic, len(out))
	}
	return out, nil
}

func sumLines(magic string, version int, body []byte) []byte {
	out := fmt.Appendf(nil, "%s %d\n%s\n", magic, version, body)
	return fmt.Appendf(out, "sum %x\n", sha256.Sum256(out))
}

// decodeFile checks the lines around the JSON of a slot or bundle file. The checksum covers every version.
func decodeFile(magic string, data []byte) (version int, body []byte, err error) {
	if len(data) > maxFile {
		return 0, nil, errNotKeyFile
	}
	head, rest, ok := bytes.Cut(data, []byte("\n"))
	number, isMagic := bytes.CutPrefix(head, []byte(magic+" "))
	version, numErr := strconv.Atoi(string(number))
	if !ok || !isMagic || numErr != nil || version < 1 || strconv.Itoa(version) != string(number) {
		return 0, nil, errNotKeyFile
	}
	body, last, ok := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return 0, nil, errSum
	}
	sum := sha256.Sum256(data[:len(data)-len(last)])
	if string(last) != "sum "+hex.EncodeToString(sum[:])+"\n" {
		return 0, nil, errSum
	}
	return version, body, nil
}
