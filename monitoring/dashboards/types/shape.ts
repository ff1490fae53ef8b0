// What a dashboard in JSON has to be by @grafana/schema; a test compiles every dashboard as a Shape.
import type * as g from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has no enums: each stands for its values.
type Json<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer U)[]
      ? Json<U>[]
      : unknown extends T
        ? T
        : { [K in keyof T]: Json<T[K]> };

// Grafana adds the defaults of options that are left out.
type Of<Type, Options, Custom> = Omit<g.Panel, 'type' | 'options' | 'targets' | 'fieldConfig'> & {
  type: Type;
  options: Partial<Options>;
  targets: Target[];
  fieldConfig: { overrides: []; defaults: Omit<g.FieldConfig, 'custom'> & { custom?: Custom } };
};

// Prometheus's query is no part of the package; these are the fields that Grafana writes itself.
type Target = {
  refId: string;
  datasource: g.DataSourceRef;
  expr: string;
  legendFormat: string;
  format: 'time_series' | 'table';
  instant: boolean;
  range: boolean;
};

type Panel =
  | Of<'bargauge', bargauge.Options, never>
  | Of<'stat', stat.Options, never>
  | Of<'table', g.TableOptions, g.TableFieldOptions>
  | Of<'timeseries', timeseries.Options, timeseries.FieldConfig>;

export type Shape = Json<Omit<g.Dashboard, 'panels'> & { panels: Panel[] }>;
