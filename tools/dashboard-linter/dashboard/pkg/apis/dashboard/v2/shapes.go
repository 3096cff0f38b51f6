// Package v2 stands in for Grafana's own package of this name, of which module proxies do not have every version.
//
// The linter needs it for dashboards of the v2 schema alone. Ours are classic ones, so that these shapes only have to
// compile: the members that the linter reads, without the marshalling of Grafana's.
package v2

type DashboardSpec struct {
	Title       string
	Editable    *bool
	Elements    map[string]DashboardElement
	Variables   []DashboardVariableKind
	Annotations []DashboardAnnotationQueryKind
}

type DashboardElement struct{ PanelKind *DashboardPanelKind }

type DashboardPanelKind struct{ Spec DashboardPanelSpec }

type DashboardPanelSpec struct {
	Id                 float64
	Title, Description string
	VizConfig          struct {
		Group string
		Spec  struct{ FieldConfig, Options any }
	}
	Data struct {
		Spec struct{ Queries []DashboardPanelQueryKind }
	}
}

type DashboardPanelQueryKind struct {
	Spec struct {
		RefId  string
		Hidden bool
		Query  DashboardDataQueryKind
	}
}

type DashboardDataQueryKind struct {
	Group      string
	Datasource *struct{ Name *string }
	Spec       map[string]any
}

type DashboardVariableRefresh string

const (
	DashboardVariableRefreshOnDashboardLoad    DashboardVariableRefresh = "onDashboardLoad"
	DashboardVariableRefreshOnTimeRangeChanged DashboardVariableRefresh = "onTimeRangeChanged"
)

type DashboardVariableKind struct {
	QueryVariableKind                                          *struct{ Spec QueryVariable }
	DatasourceVariableKind                                     *struct{ Spec DatasourceVariable }
	CustomVariableKind, IntervalVariableKind                   *struct{ Spec TextVariable }
	ConstantVariableKind, TextVariableKind                     *struct{ Spec TextVariable }
	AdhocVariableKind, GroupByVariableKind, SwitchVariableKind *struct{ Spec TextVariable }
}

type QueryVariable struct {
	Name            string
	Label, AllValue *string
	Multi           bool
	Refresh         DashboardVariableRefresh
	Query           DashboardDataQueryKind
}

type DatasourceVariable struct {
	Name, PluginId  string
	Label, AllValue *string
	Multi           bool
	Refresh         DashboardVariableRefresh
}

type TextVariable struct {
	Name, Query     string
	Label, AllValue *string
	Multi           bool
}

type DashboardAnnotationQueryKind struct {
	Spec struct {
		Name  string
		Query DashboardDataQueryKind
	}
}
