{{- define "venue.name" -}}
{{- default .Release.Name .Values.name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "venue.labels" -}}
app.kubernetes.io/name: tradsys
app.kubernetes.io/instance: {{ include "venue.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Not a default in values.yaml: helm would merge it with what is given, and two kinds of keys are refused. */}}
{{- define "venue.auth" -}}
{{- if .Values.venue.auth }}{{ toYaml .Values.venue.auth }}
{{- else }}{{ dict "hs256" (dict "secretName" "tradsys-keys" "key" "hs256.key") | toYaml }}
{{- end }}
{{- end }}
