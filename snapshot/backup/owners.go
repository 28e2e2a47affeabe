package backup

import (
	"os/user"
	"strconv"
	"sync"
)

// owners remembers the names of users and groups. Safe for concurrent use.
type owners struct {
	users, groups sync.Map // uint32 -> string
}

// user returns the name of a user, "" if there is none.
func (o *owners) user(id uint32) string {
	return cachedName(&o.users, id, func(s string) (string, error) {
		u, err := user.LookupId(s)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

// group returns the name of a group, "" if there is none.
func (o *owners) group(id uint32) string {
	return cachedName(&o.groups, id, func(s string) (string, error) {
		g, err := user.LookupGroupId(s)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

func cachedName(m *sync.Map, id uint32, lookup func(string) (string, error)) string {
	if name, ok := m.Load(id); ok {
		return name.(string)
	}
	name, err := lookup(strconv.FormatUint(uint64(id), 10))
	if err != nil {
		name = ""
	}
	m.Store(id, name)
	return name
}
