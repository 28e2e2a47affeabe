package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Export returns the usable slots of dir and its newest whole bundle as one text, for paper or for the label
// of an archive. It needs no secret and reveals none (unless a slot is clear): it opens with the slots' secrets.
func Export(dir string) ([]byte, error) {
	d := keyDir{path: dir}
	slots, err := d.slots()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, s := range slots {
		if s.problem != "" {
			continue
		}
		data, err := s.encode()
		if err != nil {
			return nil, err
		}
		out.Write(data)
	}
	whole, problems, err := d.bundles()
	if err != nil {
		return nil, err
	}
	if len(whole) == 0 || out.Len() == 0 {
		return nil, fmt.Errorf("%s: %w", dir, errors.Join(ErrDamagedBundle, problems))
	}
	data, err := encodeFile(bundleMagic, bundleVersion, whole[0])
	if err != nil {
		return nil, err
	}
	out.Write(data)
	return out.Bytes(), nil
}

// Import writes what Export or Sheet gave into dir, beside what is there already: only what is missing or damaged. Keys of another store
// are refused (ErrForeign), as is a text with anything damaged in it (ErrDamagedSlot, ErrDamagedBundle, *SheetError): then nothing is written.
func Import(dir string, exported []byte) error { return keyDir{path: dir}.take(exported) }

// take writes exported keys.
func (d keyDir) take(exported []byte) error {
	if isSheet(exported) {
		text, err := ReadSheet(exported)
		if err != nil {
			return err
		}
		exported = text
	}
	files, set, err := parseExport(exported)
	if err != nil {
		return err
	}
	if err := d.make(); err != nil && !errors.Is(err, ErrExists) { // the directory may be what was lost
		return err
	}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	there, err := d.whole(set)
	if err != nil {
		return err
	}
	for _, f := range files {
		if there[f.name] {
			continue
		}
		if err := d.write(f.name, f.data); err != nil {
			return err
		}
	}
	return nil
}

// whole lists the files of the directory that need not be imported. ErrForeign: there are bundles of another set, or slots and none of this one.
func (d keyDir) whole(set Set) (map[string]bool, error) {
	there := map[string]bool{}
	bundles, _, err := d.bundles()
	if err != nil {
		return nil, err
	}
	for _, f := range bundles {
		if Set(f.Set) != set {
			return nil, fmt.Errorf("%s: %w", d.path, ErrForeign)
		}
		there[bundlePrefix+strconv.FormatUint(uint64(f.Number), 10)] = true
	}
	slots, err := d.slots()
	if err != nil {
		return nil, err
	}
	foreign, own := false, false
	for _, s := range slots {
		there[slotPrefix+s.ID] = !s.damaged
		if !s.damaged && len(s.Set) == len(set) { // a newer version's is not known
			foreign, own = foreign || Set(s.Set) != set, own || Set(s.Set) == set
		}
	}
	if foreign && !own && len(bundles) == 0 {
		return nil, fmt.Errorf("%s: %w", d.path, ErrForeign)
	}
	return there, nil
}

// namedFile is a file of keys under its name in the directory.
type namedFile struct {
	name string
	data []byte
}

// parseExport splits an exported text into files, the bundle first, and checks each.
func parseExport(text []byte) (files []namedFile, set Set, err error) {
	if len(text) > 16*maxFile {
		return nil, set, fmt.Errorf("exported keys: %d bytes are too many", len(text))
	}
	var sets []Set
	for len(text) > 0 {
		var data []byte
		if data, text = cutFile(text); bytes.HasPrefix(data, []byte(bundleMagic)) {
			f, err := parseBundle(data)
			if err != nil {
				return nil, set, fmt.Errorf("exported keys: %w: %v", ErrDamagedBundle, err)
			}
			files = slices.Insert(files, 0, namedFile{bundlePrefix + strconv.FormatUint(uint64(f.Number), 10), data})
			sets = append(sets, Set(f.Set))
			continue
		}
		s := parseSlot(claimedID(data), data)
		if s.problem != "" {
			return nil, set, fmt.Errorf("exported keys: %w: %s", ErrDamagedSlot, s.problem)
		}
		files = append(files, namedFile{slotPrefix + s.ID, data})
		sets = append(sets, Set(s.Set))
	}
	if len(files) < 2 || bytes.HasPrefix([]byte(files[0].name), []byte(slotPrefix)) {
		return nil, set, fmt.Errorf("exported keys: %w: a slot and a bundle are needed", ErrDamagedBundle)
	}
	if slices.ContainsFunc(sets, func(s Set) bool { return s != sets[0] }) {
		return nil, set, fmt.Errorf("exported keys: %w", ErrForeign)
	}
	return files, sets[0], nil
}

// cutFile splits text after three lines.
func cutFile(text []byte) (file, rest []byte) {
	end := 0
	for range 3 {
		n := bytes.IndexByte(text[end:], '\n')
		if n < 0 {
			return text, nil
		}
		end += n + 1
	}
	return text[:end:end], text[end:]
}

// claimedID is the ID a slot file gives itself; parseSlot checks the rest.
func claimedID(data []byte) string {
	_, body, err := decodeFile(slotMagic, data)
	var s slotFile
	if err != nil || json.Unmarshal(body, &s) != nil || !slotID.MatchString(s.ID) {
		return ""
	}
	return s.ID
}
